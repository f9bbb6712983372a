import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { SendMessageCommand } from '@aws-sdk/client-sqs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import type { CommitStatus } from '../../src/lib/forge/forge.ts'
import { fileLogStore } from '../../src/lib/logs/file.ts'
import { Redactor } from '../../src/lib/logs/redact.ts'
import { WarmRepositories } from '../../src/lib/pipeline/cache/warm.ts'
import type { BuildParts } from '../../src/lib/pipeline/parts.ts'
import { StatusReporter } from '../../src/lib/pipeline/status-reporter.ts'
import { work } from '../../src/lib/pipeline/worker.ts'
import type { Queue } from '../../src/lib/queue/queue.ts'
import { type SqsQueueOptions, sqsQueue } from '../../src/lib/queue/sqs/queue.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { startAws, type TestAws, type TestQueueOptions } from '../support/aws/aws.ts'
import { messagesIn, take } from '../support/aws/queues.ts'
import { tempDir } from '../support/temp.ts'

/** Messages that SQS gives up on, and messages that cannot be read. */
describe('SQS dead letters', () => {
  let aws: TestAws
  let url: string
  let log: string[]
  const opened: Queue[] = []
  beforeAll(async () => {
    aws = await startAws()
  })
  afterAll(() => aws[Symbol.asyncDispose]())
  beforeEach(() => {
    log = []
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()))
  })

  /** Makes a queue and its dead-letter queue; resolves to the URL of the latter. */
  async function withDeadLetters(options: TestQueueOptions): Promise<string> {
    const made = await aws.queue(options)
    url = made.url
    return made.deadLetterUrl ?? ''
  }

  async function open(options: Partial<SqsQueueOptions> = {}): Promise<Queue> {
    const queue = await sqsQueue({
      url,
      leaseSeconds: 3600,
      clientConfig: aws.clientConfig,
      log: (line) => log.push(line),
      ...options,
    })
    opened.push(queue)
    return queue
  }

  async function sendRaw(body: string, to = url): Promise<void> {
    const names = { MessageGroupId: 'raw', MessageDeduplicationId: 'raw' }
    const fifo = to.endsWith('.fifo') && names
    await aws.sqs.send(new SendMessageCommand({ QueueUrl: to, MessageBody: body, ...fifo }))
  }

  describe.each([false, true])('FIFO: %s', (fifo) => {
    it('a build returns from the dead-letter queue as often as its workers die', async () => {
      const deadLetters = await withDeadLetters({ maxReceives: 1, fifo })
      const dying = await open({ leaseSeconds: 1, deadLetterSeconds: 0.2 })
      await dying.send({ buildId: 'a', repository: 'acme/app' })
      for (const _ of [1, 2, 3]) expect(await take(dying)).toMatchObject({ buildId: 'a' })
      await (await take(await open({ deadLetterSeconds: 0.2 }))).acknowledge()
      await expect.poll(() => messagesIn(aws, url)).toEqual([0, 0])
      await expect.poll(() => messagesIn(aws, deadLetters)).toEqual([0, 0])
      const warning = expect.stringMatching(
        /^warning: .* moves messages to its dead-letter queue after 1 receives, .* Set its maxReceiveCount/,
      )
      const back = 'build a was in the dead-letter queue; requeued'
      await expect.poll(() => log.toSorted()).toEqual([back, back, back, warning, warning])
    })

    it('a message that cannot be read is moved there at once, and stays', async () => {
      const deadLetters = await withDeadLetters({ maxReceives: 5, fifo })
      await sendRaw('{"ID": 7, "Repository": "sesame"}')
      const queue = await open({ deadLetterSeconds: 0.1 })
      await queue.send({ buildId: 'a', repository: 'acme/app' })
      await (await take(queue)).acknowledge()
      await expect.poll(() => log.length).toBe(1)
      expect(log[0]).toMatch(
        /^queue: message \S+ \(33 characters\) is not a build: its ID is missing or not a string. Moved to the dead-letter queue$/,
      )
      expect(await messagesIn(aws, url)).toEqual([0, 0])
      // It is received, and left there.
      await expect.poll(() => messagesIn(aws, deadLetters)).toEqual([0, 1])
      await queue.close()
      expect(log).toHaveLength(1)
    })
  })

  it('a dead letter of another queue is left alone', async () => {
    const deadLetters = await withDeadLetters({ maxReceives: 5 })
    await using front = await startFront('arn:aws:sqs:us-east-1:000000000000:other')
    await sendRaw('{"ID": "a", "Repository": "acme/app"}', deadLetters)
    const queue = await open({ clientConfig: { ...aws.clientConfig, endpoint: front.url } })
    const next = queue.receive(AbortSignal.timeout(1000))
    await expect.poll(() => messagesIn(aws, deadLetters)).toEqual([0, 1])
    expect(await next).toBeNull()
    await queue.close()
    expect(await messagesIn(aws, deadLetters)).toEqual([0, 1])
    expect(await messagesIn(aws, url)).toEqual([0, 0])
    expect(log).toEqual([])
  })

  /** An SQS that reports which queue messages came from, which fauxqs does not. */
  async function startFront(arn: string) {
    const server = createServer(async (request, response) => {
      const left = new AbortController()
      response.once('close', () => left.abort())
      const answer = await fetch(aws.url, {
        signal: left.signal,
        method: 'POST',
        headers: {
          'content-type': `${request.headers['content-type']}`,
          'x-amz-target': `${request.headers['x-amz-target']}`,
        },
        body: await text(request),
      }).catch((error: Error) => {
        if (left.signal.aborted) return null // the caller no longer waits
        throw error
      })
      if (!answer) return
      const told = (await answer.json()) as { Messages?: { Attributes?: Record<string, string> }[] }
      for (const message of told.Messages ?? []) {
        message.Attributes = { ...message.Attributes, DeadLetterQueueSourceArn: arn }
      }
      response.writeHead(answer.status, { 'content-type': 'application/x-amz-json-1.0' })
      response.end(JSON.stringify(told))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      async [Symbol.asyncDispose]() {
        server.closeAllConnections()
        server.close()
      },
    }
  }

  it('a build whose workers keep dying fails, however soon SQS moves its message to the dead-letter queue', async () => {
    const deadLetters = await withDeadLetters({ maxReceives: 1 })
    const dying = await open({ leaseSeconds: 1, deadLetterSeconds: 0.2 })
    const queue = await open({ deadLetterSeconds: 0.2 })
    await using folder = await tempDir('conveyor-queue-')
    const store = await sqliteBuildStore({ file: join(folder.path, 'builds.db') })
    const { build } = await store.accept({
      repository: 'acme/app',
      sha: 'a'.repeat(40),
      ref: null,
      defaultBranch: null,
      cache: true,
      source: { kind: 'api' },
    })
    await queue.send({ buildId: build.id, repository: build.repository })
    // Workers that start the build and die.
    for (const _ of [1, 2]) await store.claimFor((await take(dying)).buildId, 0)

    const statuses: CommitStatus[] = []
    const forge = { setStatus: async (status: CommitStatus) => void statuses.push(status) }
    const complaints: string[] = []
    const complain = (line: string) => void complaints.push(line)
    const stop = new AbortController()
    const ends: Build[] = []
    await work(
      {
        queue,
        logs: fileLogStore({ dir: folder.path }),
        statuses: new StatusReporter({ forge, store, buildUrl: () => 'http://logs', log: complain }),
        // Nothing else is needed: this build is not started again.
        parts: { store } as BuildParts,
        newRedactor: () => new Redactor(),
        warm: new WarmRepositories(),
        timeoutMs: 60_000,
        retryDelays: [0],
        onEnd(ended) {
          ends.push(ended)
          stop.abort()
        },
        log: complain,
      },
      1,
      { stop: stop.signal, now: new AbortController().signal },
    )
    expect(ends).toMatchObject([{ id: build.id, state: 'failed', attempt: 3 }])
    expect(ends[0]?.error).toMatch(/^gave up building .* after 2 attempts/)
    await expect.poll(() => statuses.map(({ state }) => state)).toEqual(['error'])
    await expect.poll(() => messagesIn(aws, url)).toEqual([0, 0])
    await expect.poll(() => messagesIn(aws, deadLetters)).toEqual([0, 0])
    expect(complaints).toEqual([])
    await store.close()
  })

  it('a message that cannot be read is deleted if there is no dead-letter queue', async () => {
    url = (await aws.queue()).url
    await sendRaw('open sesame')
    const queue = await open()
    const next = take(queue)
    await expect.poll(() => messagesIn(aws, url)).toEqual([0, 0])
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    expect((await next).buildId).toBe('a')
    expect(log).toHaveLength(1)
    expect(log[0]).toMatch(/^queue: message .* is not a build: it is not JSON. Deleted$/)
  })
})
