import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'

import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import { NO_PROXIES } from '../../src/lib/net/proxies.ts'
import { notifyConnections } from '../../src/lib/notify/connections.ts'
import { Notifier, type NotifierOptions } from '../../src/lib/notify/notifier.ts'
import { type NotifyTarget, notifyTarget } from '../../src/lib/notify/target.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import type { Notification } from '../../src/lib/store/notifications.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { isSigned, type Receiver, startReceiver } from '../support/network/receiver.ts'
import { until } from '../support/test-server.ts'

const SECRET = 'hush-hush'
const IMAGE = `registry.example/acme/web@sha256:${'5'.repeat(64)}`

let store: BuildStore
let receiver: Receiver
let targets: NotifyTarget[]
let lines: string[]
/** The store's clock, in milliseconds. */
let clock: number
beforeEach(async () => {
  clock = Date.parse('2030-01-02T03:04:05.678Z')
  store = await sqliteBuildStore({ file: ':memory:', now: () => new Date(clock) })
  receiver = await startReceiver()
  targets = [notifyTarget(`${receiver.url}/hook`, SECRET, 'conveyor')]
  lines = []
})
afterEach(async () => {
  await receiver[Symbol.asyncDispose]()
  await store.close()
})

function notifier(change: Partial<NotifierOptions> & { local?: boolean } = {}): Notifier {
  const { dispatcher, destroy } = notifyConnections(NO_PROXIES, change.local ?? true)
  const made = new Notifier({
    ...{ store, targets: () => targets, baseUrl: () => 'https://conveyor.example', dispatcher },
    log: (line) => void lines.push(line),
    ...change,
  })
  onTestFinished(async () => {
    await made.close()
    await destroy()
  })
  return made
}

let commits = 0
/** A build that has ended. */
async function ended(
  result: 'succeeded' | 'failed' = 'succeeded',
  repository = 'acme/web',
  names = ['main', 'latest'],
): Promise<Build> {
  commits += 1
  const { build } = await store.accept({
    ...{ repository, sha: commits.toString(16).padStart(40, '0'), ref: { kind: 'branch', name: 'main' } },
    ...{ defaultBranch: 'main', cache: true, source: { kind: 'api' } },
    commit: { title: 'Greet', author: 'Ada', login: 'ada' },
  })
  await store.claim(build.id)
  const tags = names.map((name) => `registry.example/acme/web:${name}`)
  await store.finish(
    build.id,
    1,
    1,
    result === 'succeeded'
      ? { state: 'succeeded', image: IMAGE, tags }
      : { state: 'failed', error: 'RUN failed', errorKind: 'build_failed' },
  )
  const read = await store.get(build.id)
  if (!read) throw new Error('the build is gone')
  return read
}

async function only(build: Build): Promise<Notification> {
  const all = await store.notifications.ofBuild(build.id)
  expect(all).toHaveLength(1)
  return all[0] as Notification
}

/** Runs until nothing is being sent. */
async function settled(subject: Notifier, build: Build, state: Notification['state'][]): Promise<void> {
  await subject.run()
  await until(async () =>
    (await store.notifications.ofBuild(build.id)).every(
      (one) => one.attempts > 0 && state.includes(one.state) && (one.status ?? one.error) !== null,
    ),
  )
}

describe('a webhook', () => {
  test('is sent once, signed, for a build that succeeded', async () => {
    const build = await ended()
    const one = notifier()
    const other = notifier()
    await Promise.all([one.run(), other.run(), one.run(), other.run()])
    await settled(one, build, ['delivered'])
    expect(receiver.received).toHaveLength(1)
    const [hook] = receiver.received
    if (!hook) return
    expect(hook.path).toBe('/hook')
    expect(hook.headers).toMatchObject({
      ...{ 'content-type': 'application/json', 'x-conveyor-event': 'build_ended' },
      'x-conveyor-delivery': (await only(build)).id,
    })
    expect(await isSigned(hook, SECRET)).toBe(true)
    expect(await isSigned(hook, 'another')).toBe(false)
    expect(await isSigned({ ...hook, body: `${hook.body} ` }, SECRET)).toBe(false)
    expect(Math.abs(Number(hook.headers['x-conveyor-timestamp']) - Date.now() / 1000)).toBeLessThan(60)
    expect(hook.json).toMatchObject({
      ...{ event: 'build_ended', id: (await only(build)).id },
      build: {
        id: build.id,
        state: 'succeeded',
        image: IMAGE,
        url: `https://conveyor.example/builds/${build.id}`,
      },
      artifact: { image: IMAGE, shas: [build.sha] },
    })
    expect(await only(build)).toMatchObject({
      state: 'delivered',
      status: 200,
      answer: 'thanks',
      error: null,
    })
  })

  test('tells why a build failed, and is not signed without a secret', async () => {
    targets = [notifyTarget(receiver.url, null, 'conveyor')]
    const build = await ended('failed')
    await settled(notifier(), build, ['delivered'])
    const [hook] = receiver.received
    expect(hook?.json).toMatchObject({
      build: { state: 'failed', error: 'RUN failed', error_kind: 'build_failed', image: null },
      artifact: null,
    })
    expect(Object.keys(hook?.headers ?? {}).filter((name) => /timestamp|signature/.test(name))).toEqual([])
  })

  test('in Docker Hub’s format is sent for a hundred tags to each URL; the log says how many are left out', async () => {
    targets = Array.from({ length: 30 }, (_, at) =>
      notifyTarget(`${receiver.url}/${at}`, SECRET, at === 0 ? 'conveyor' : 'dockerhub'),
    )
    const tagsOf = async (names: string[]) => {
      const build = await ended('succeeded', 'acme/web', names)
      // Makes them, and sends none.
      const subject = notifier()
      await Promise.all([subject.run(), subject.close()])
      const all = await store.notifications.ofBuild(build.id)
      return [...Map.groupBy(all, ({ target }) => target).values()].map((of) => of.map(({ tag }) => tag))
    }
    const names = Array.from({ length: 103 }, (_, at) => `v${at}`)
    const some = names.slice(0, 40)
    expect(await tagsOf(some)).toEqual([[null], ...Array.from({ length: 29 }, () => some)])
    expect(lines).toEqual([])
    const most = names.slice(0, 100)
    expect(await tagsOf(names)).toEqual([[null], ...Array.from({ length: 29 }, () => most)])
    expect(lines).toEqual([
      expect.stringMatching(/^webhooks for acme\/web@\S+ leave out 3 of its tags: a URL gets 100 at most$/),
    ])
  })

  test('in Docker Hub’s format has the keys that Docker documents, once for each tag', async () => {
    targets = [notifyTarget(receiver.url, SECRET, 'dockerhub')]
    const failed = await ended('failed')
    const build = await ended()
    await settled(notifier(), build, ['delivered'])
    await until(() => receiver.received.length === 2)
    expect(await store.notifications.ofBuild(failed.id)).toEqual([])
    const tags = receiver.received.map(({ json }) => (json.push_data as { tag: string }).tag)
    expect(tags.sort()).toEqual(['latest', 'main'])
    // https://docs.docker.com/docker-hub/repos/manage/webhooks/, "Example webhook payload"
    const documented = {
      callback_url:
        'https://registry.hub.docker.com/u/svendowideit/testhook/hook/2141b5bi5i5b02bec211i4eeih0242eg11000a/',
      push_data: { pushed_at: 1417566161, pusher: 'trustedbuilder', tag: 'latest' },
      repository: {
        ...{
          comment_count: 0,
          date_created: 1417494799,
          description: '',
          dockerfile: '#',
          full_description: 'D',
        },
        ...{
          is_official: false,
          is_private: true,
          is_trusted: true,
          name: 'testhook',
          namespace: 'svendowideit',
        },
        ...{ owner: 'svendowideit', repo_name: 'svendowideit/testhook', star_count: 0, status: 'Active' },
        repo_url: 'https://registry.hub.docker.com/u/svendowideit/testhook/',
      },
    }
    const kinds = (value: unknown): unknown =>
      typeof value === 'object' && value !== null
        ? Object.fromEntries(Object.entries(value).map(([key, part]) => [key, kinds(part)]))
        : typeof value
    const { callback_url: _, ...rest } = documented
    for (const { json } of receiver.received) expect(kinds(json)).toEqual(kinds(rest))
    expect(receiver.received[0]?.json.repository).toMatchObject({
      ...{ name: 'web', namespace: 'acme', repo_name: 'registry.example/acme/web' },
    })
  })

  test('is tried five times, with waits in between, also by the next process', async () => {
    receiver.answer = (_, response) => void response.writeHead(503).end('not now')
    const build = await ended()
    for (const [index, wait] of [10, 60, 600, 3600].entries()) {
      const sender = notifier()
      await sender.run()
      await until(async () => (await only(build)).attempts === index + 1)
      // A try begins with the answer of the last one, and is due again in a minute, as the second wait says, too.
      await sender.close()
      const dueAt = new Date(clock + wait * 1000).toISOString()
      expect(await only(build)).toMatchObject({ state: 'pending', status: 503, dueAt })
      expect(await only(build)).toMatchObject({ error: 'HTTP 503', answer: 'not now' })
      clock += wait * 1000 - 1
      expect(await store.notifications.dueTargets()).toEqual([])
      clock += 1
    }
    await settled(notifier(), build, ['failed'])
    expect(await only(build)).toMatchObject({ state: 'failed', attempts: 5 })
    expect(receiver.received).toHaveLength(5)
    expect(new Set(receiver.received.map(({ headers }) => headers['x-conveyor-delivery'])).size).toBe(1)
    expect(lines).toEqual([
      expect.stringMatching(/^webhook about acme\/web@\w{7} to http:\S+ failed after 5 tries: HTTP 503$/),
    ])
  })

  test('is tried again when the receiver says, and no more when it is gone', async () => {
    receiver.answer = (_, response) => void response.writeHead(429, { 'retry-after': '120' }).end()
    const build = await ended()
    await settled(notifier(), build, ['pending'])
    const dueAt = new Date(clock + 120_000).toISOString()
    await until(async () => (await only(build)).dueAt === dueAt)
    clock += 120_000
    receiver.answer = (_, response) => void response.writeHead(410).end()
    await settled(notifier(), build, ['failed'])
    expect(await only(build)).toMatchObject({ attempts: 2, error: 'HTTP 410' })
  })

  test('is not redirected, and keeps at most 1 kB of an answer, without the password in the URL', async () => {
    await using elsewhere = await startReceiver()
    targets = [notifyTarget(`${receiver.url}/hooks/pass-word-0815?key=another-secret`, null, 'conveyor')]
    receiver.answer = ({ path }, response) => {
      response.writeHead(307, { location: elsewhere.url })
      response.write(`Cannot POST ${path}, key another-secret\n\x1b[31m`)
      const more = () => {
        while (!response.destroyed && response.write('☃'.repeat(10_000)));
      }
      response.on('drain', more)
      more()
    }
    const build = await ended()
    await settled(notifier(), build, ['pending'])
    const { answer, error, status, origin } = await only(build)
    expect(elsewhere.received).toEqual([])
    expect({ status, error, origin }).toEqual({
      ...{ status: 307, error: 'HTTP 307: redirects are not followed', origin: receiver.url },
    })
    expect(answer).toMatch(/^Cannot POST \[redacted\], key \[redacted\] \[31m☃+$/)
    expect(Buffer.byteLength(answer ?? '')).toBeLessThanOrEqual(1024)
    expect(JSON.stringify(await store.notifications.ofBuild(build.id))).not.toMatch(/0815|another-secret/)
  })

  test('is not sent to a URL that is no longer configured', async () => {
    const build = await ended()
    const subject = notifier({ delays: [] })
    await store.notifications.make(
      build.id,
      [{ target: 'old', origin: 'https://old.example', format: 'conveyor', tag: null }],
      5,
    )
    await settled(subject, build, ['failed'])
    expect((await only(build)).error).toBe('--notify.url (NOTIFY_URL) no longer has this URL')
  })

  test('leaves nothing to be made for repositories without URLs', async () => {
    targets = []
    const build = await ended()
    await notifier().run()
    expect(await store.notifications.ended(9)).toEqual([])
    expect(await store.notifications.ofBuild(build.id)).toEqual([])
  })
})

describe('an address that is blocked', () => {
  test.each([
    ['127.0.0.1', false],
    ['localhost', false],
    ['[::ffff:127.0.0.1]', false],
    ['169.254.169.254', true],
    ['[fe80::1]', true],
  ])('%s gets nothing', async (host, local) => {
    targets = [notifyTarget(`http://${host}:${receiver.port}/`, null, 'conveyor')]
    const build = await ended()
    await settled(notifier({ local }), build, ['failed'])
    expect(await only(build)).toMatchObject({
      attempts: 1,
      error: expect.stringMatching(/^its address \S+ is blocked$/),
    })
    expect(receiver.received).toEqual([])
  })
})

describe('a receiver that does not answer', () => {
  /** Accepts connections, and nothing else. */
  async function silent(): Promise<{ target: NotifyTarget; end: () => void }> {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => void sockets.add(socket.on('error', () => {}))).listen(
      0,
      '127.0.0.1',
    )
    await once(server, 'listening')
    const end = () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    }
    onTestFinished(end)
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    return { target: notifyTarget(url, null, 'conveyor'), end }
  }

  test('is given up after a while', async () => {
    targets = [(await silent()).target]
    const build = await ended()
    await settled(notifier({ timeoutMs: 200 }), build, ['pending'])
    expect(await only(build)).toMatchObject({ status: null, error: 'no answer within 0.2 s' })
  })

  test('holds up no other', async () => {
    const mute = await silent()
    const waiting: Build[] = []
    for (let i = 0; i < 8; i++) waiting.push(await ended('succeeded', 'acme/mute'))
    const other = notifyTarget(receiver.url, null, 'conveyor')
    const subject = notifier({
      targets: (repository) => (repository === 'acme/mute' ? [mute.target] : [other]),
      timeoutMs: 600_000,
    })
    await subject.run()
    const build = await ended()
    await settled(subject, build, ['delivered'])
    const states = await Promise.all(waiting.map(async (one) => (await only(one)).error))
    expect(states).toEqual(Array(8).fill(null))
    mute.end()
  })
})
