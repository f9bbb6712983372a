import { setTimeout as sleep } from 'node:timers/promises'
import { PurgeQueueCommand, SendMessageCommand } from '@aws-sdk/client-sqs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Queue } from '../../src/lib/queue/queue.ts'
import { type SqsQueueOptions, sqsQueue } from '../../src/lib/queue/sqs/queue.ts'
import { startAws, type TestAws } from '../support/aws/aws.ts'
import { messagesIn, take } from '../support/aws/queues.ts'
import { startS3Front } from '../support/aws/s3-front.ts'
import { projectRoot, type Running, start } from '../support/processes.ts'
import { queueContract } from './queue.contract.ts'

let aws: TestAws
beforeAll(async () => {
  aws = await startAws()
})
afterAll(() => aws[Symbol.asyncDispose]())

/** What the queues of the contract have logged: nothing was to be said. */
const said: string[] = []
afterEach(() => expect(said.splice(0)).toEqual([]))

for (const fifo of [false, true]) {
  queueContract(
    fifo ? 'SQS FIFO' : 'SQS',
    async (lease) =>
      sqsQueue({
        url: (await aws.queue({ fifo })).url,
        leaseSeconds: lease === 'short' ? 2 : 3600,
        clientConfig: aws.clientConfig,
        log: (line) => said.push(line),
      }),
    { ordered: false, exact: false },
  )
}

describe('SQS queue', () => {
  let url: string
  let log: string[]
  const opened: Queue[] = []
  beforeEach(async () => {
    url = (await aws.queue()).url
    log = []
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((queue) => queue.close()))
  })

  /** A queue, as each process opens it. */
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

  /** A worker in another process, which finds everything but the URL in its environment. */
  function inAnotherProcess(body: string): Promise<Running> {
    const script = `import { sqsQueue } from ${JSON.stringify(`${projectRoot}src/lib/queue/sqs/queue.ts`)}
      const queue = await sqsQueue({ url: ${JSON.stringify(url)}, leaseSeconds: 2, log: console.log })
      const never = new AbortController().signal
      ${body}`
    const env = { ...aws.env, PATH: process.env.PATH }
    return start(process.execPath, ['--input-type=module', '--eval', script], { env })
  }

  /** How many messages are waiting, and how many are in flight. */
  const inside = () => messagesIn(aws, url)

  it('finds region, endpoint and credentials like other AWS programs', async () => {
    const queue = await open()
    const sender = await inAnotherProcess(`
      await queue.send({ buildId: 'a', repository: 'acme/app' })
      await queue.close()`)
    expect(await sender.exited).toEqual({ code: 0, signal: null })
    expect(sender.stdout() + sender.stderr()).toBe('')
    expect((await take(queue)).buildId).toBe('a')
  })

  it('delivers the job of a worker that was killed when its lease has ended', async () => {
    const queue = await open()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const worker = await inAnotherProcess(`
      const job = await queue.receive(never)
      process.stdout.write('took ' + job.buildId)
      setInterval(() => {}, 1000)`)
    await worker.waitFor(/took a/)
    const next = take(queue)
    await worker.kill('SIGKILL')
    expect(await next).toMatchObject({ buildId: 'a' })
  })

  it('deletes a message when its build has ended, and not before', async () => {
    const queue = await open()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const job = await take(queue)
    await job.extend(60)
    expect(await inside()).toEqual([0, 1])
    await job.acknowledge()
    expect(await inside()).toEqual([0, 0])
  })

  it('reports a lost lease to its worker, which alone is no reason to stop', async () => {
    const queue = await open()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const job = await take(queue)
    await aws.sqs.send(new PurgeQueueCommand({ QueueUrl: url }))
    // The build store knows who owns the build: it may still be this worker.
    await expect(job.extend(60)).rejects.toMatchObject({
      message: 'the lease on build a was lost',
      kind: 'unavailable',
      retryable: true,
    })
    await job.release(0)
    await job.acknowledge()
  })

  it('never requests more than SQS allows: 12 hours from when a message was received', async () => {
    const queue = await open()
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    const job = await take(queue)
    await job.extend(100_000)
    await job.release(100_000)
    expect(await inside()).toEqual([0, 1])
  })

  it('polls once for all receivers of a process', async () => {
    const polls: number[] = []
    const queue = await open({
      clientConfig: {
        ...aws.clientConfig,
        logger: {
          debug() {},
          error() {},
          warn() {},
          info: ({ commandName, input }: { commandName: string; input: { MaxNumberOfMessages: number } }) => {
            if (commandName === 'ReceiveMessageCommand') polls.push(input.MaxNumberOfMessages)
          },
        },
      },
    })
    const waiting = [1, 2, 3].map(() => take(queue))
    const one = await open()
    for (const buildId of ['a', 'b', 'c']) await one.send({ buildId, repository: 'acme/app' })
    expect((await Promise.all(waiting)).map(({ buildId }) => buildId).toSorted()).toEqual(['a', 'b', 'c'])
    expect(polls[0]).toBe(3)
    expect(polls.length).toBeLessThanOrEqual(3)
  })

  it('reads the messages of the original Conveyor', async () => {
    const queue = await open()
    const sha = '139759bd61e98faeec619c45b1060b4288952164'
    const message = {
      ID: '1234',
      Repository: 'remind101/acme-inc',
      Sha: sha,
      Branch: 'topic/x',
      NoCache: true,
    }
    await aws.sqs.send(new SendMessageCommand({ QueueUrl: url, MessageBody: JSON.stringify(message) }))
    expect(await take(queue)).toMatchObject({
      buildId: '1234',
      request: {
        repository: 'remind101/acme-inc',
        sha,
        ref: { kind: 'branch', name: 'topic/x' },
        cache: false,
      },
    })
  })

  it('reports its depth', async () => {
    const queue = await open()
    expect(await queue.depth?.()).toEqual({ ready: 0, leased: 0, oldestSeconds: 0 })
    for (const buildId of ['a', 'b', 'c']) await queue.send({ buildId, repository: 'acme/app' })
    await take(queue)
    expect(await queue.depth?.()).toMatchObject({ ready: 2, leased: 1 })
  })

  it('reports a missing or unreachable queue when it is opened', async () => {
    await expect(open({ url: `${url}-not` })).rejects.toMatchObject({
      kind: 'not_found',
      message: expect.stringContaining(`queue ${url}-not cannot be read: `),
      hint: 'Create the queue, or correct its name and region',
    })
    const nobody = { ...aws.clientConfig, endpoint: 'http://localhost:1' }
    await expect(open({ clientConfig: nobody })).rejects.toMatchObject({
      kind: 'unavailable',
      message: expect.stringContaining('ECONNREFUSED'),
    })
  })

  it('sends without a group after a standard queue has refused one', async () => {
    await using front = await startS3Front(aws.url)
    let asked = 0
    front.decide = async (_line, headers, body) => {
      if (!/SendMessage$/.test(String(headers['x-amz-target']))) return 'pass'
      const { MessageGroupId } = JSON.parse(String(await body())) as Record<string, unknown>
      if (MessageGroupId === undefined) return 'pass'
      asked += 1
      return { status: 400, code: 'InvalidParameterValue' }
    }
    const queueUrl = url.replace(aws.url, front.url)
    const queue = await open({ url: queueUrl, clientConfig: { ...aws.clientConfig, endpoint: front.url } })
    for (const buildId of ['a', 'b']) await queue.send({ buildId, repository: 'acme/app' })
    expect(asked).toBe(1)
    const jobs = [await take(queue), await take(queue)]
    expect(jobs.map(({ buildId }) => buildId).toSorted()).toEqual(['a', 'b'])
    await Promise.all(jobs.map((job) => job.acknowledge()))
  })

  it('keeps sending the group when a request fails for another reason', async () => {
    await using front = await startS3Front(aws.url)
    const groups: unknown[] = []
    let failing = true
    front.decide = async (_line, headers, body) => {
      if (!/SendMessage$/.test(String(headers['x-amz-target']))) return 'pass'
      groups.push((JSON.parse(String(await body())) as Record<string, unknown>).MessageGroupId)
      return failing ? { status: 403, code: 'AccessDenied' } : 'pass'
    }
    const queueUrl = url.replace(aws.url, front.url)
    const queue = await open({ url: queueUrl, clientConfig: { ...aws.clientConfig, endpoint: front.url } })
    await expect(queue.send({ buildId: 'a', repository: 'acme/app' })).rejects.toMatchObject({
      kind: 'unauthorized',
    })
    failing = false
    await queue.send({ buildId: 'a', repository: 'acme/app' })
    expect(groups).toHaveLength(2)
    expect(groups).not.toContain(undefined)
  })

  it('continues after an outage of the server while workers waited and worked', async () => {
    await using server = await startAws({ persist: true })
    url = (await server.queue()).url
    const clientConfig = server.clientConfig
    const [sender, ...workers] = [
      await open({ clientConfig }),
      await open({ clientConfig }),
      await open({ clientConfig }),
    ]
    await sender.send({ buildId: 'held', repository: 'acme/app' })
    const held = await take(sender)
    const stop = new AbortController()
    const problems: unknown[] = []
    const received: string[] = []
    const loops = workers.map(async (queue) => {
      while (!stop.signal.aborted) {
        try {
          const job = await queue.receive(stop.signal)
          await job?.acknowledge()
          if (job) received.push(job.buildId)
        } catch (error) {
          problems.push(error)
          await sleep(50)
        }
      }
    })
    const away = { kind: 'unavailable', retryable: true, name: 'ConveyorError' }
    for (const buildId of ['a', 'b']) await sender.send({ buildId, repository: 'acme/app' })
    await expect.poll(() => received.length).toBe(2)
    await server.stop()
    await expect(sender.send({ buildId: 'lost', repository: 'acme/app' })).rejects.toMatchObject(away)
    await expect(held.extend(60)).rejects.toMatchObject(away)
    await expect.poll(() => problems.length).toBeGreaterThan(1)
    await server.start()
    await held.extend(60)
    for (const buildId of ['c', 'd']) await sender.send({ buildId, repository: 'acme/app' })
    await expect.poll(() => received.length).toBe(4)
    await held.release(1)
    await expect.poll(() => received.length).toBe(5)
    stop.abort()
    await Promise.all(loops)
    expect(received.toSorted()).toEqual(['a', 'b', 'c', 'd', 'held'])
    for (const problem of problems) expect(problem).toMatchObject(away)
  })
})
