import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { postgresQueue } from '../../src/lib/queue/postgres/queue.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import { push } from '../store/contract/subject.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'

let postgres: TestPostgres
let url: string
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres[Symbol.asyncDispose]())
beforeEach(async () => {
  url = await postgres.database()
})

describe('a database that stops responding', () => {
  /** The processes of the server and of each of its connections. */
  async function processes(): Promise<number[]> {
    const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number)
    const parents = await Promise.all(
      // A process that has ended in the meantime has no parent.
      ids.map((id) => readFile(`/proc/${id}/stat`, 'utf8').catch(() => '')),
    )
    const children = ids.filter((_, i) => {
      const stat = parents[i] ?? ''
      return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === postgres.pid
    })
    return [postgres.pid, ...children]
  }
  async function signal(name: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    for (const id of await processes()) {
      try {
        process.kill(id, name)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // its client has disconnected
      }
    }
  }
  afterEach(() => signal('SIGCONT'))

  it('queries time out, and use new connections when it is back', async () => {
    const database = new Postgres({ url, timeoutSeconds: 10, connections: 3 })
    const store = await postgresBuildStore({ postgres: database })
    const queue = await postgresQueue({ postgres: database })
    const { build } = await store.accept(push('main'))
    const problems: unknown[] = []
    const stop = new AbortController()
    const received = (async () => {
      for (;;) {
        try {
          return await queue.receive(stop.signal)
        } catch (error) {
          problems.push(error)
          await sleep(100)
        }
      }
    })()
    await expect.poll(() => database.query('select 1 from queue_waiters where waiting = 1')).toHaveLength(1)

    await signal('SIGSTOP')
    const asked = [store.get(build.id), store.accept(push('dev')), store.claim(build.id)]
    for (const call of await Promise.allSettled(asked)) {
      expect(call).toMatchObject({
        status: 'rejected',
        reason: { name: 'ConveyorError', kind: 'unavailable', retryable: true },
      })
    }
    // A worker waiting for a job polls now and then, over the connection on which it is notified.
    await expect.poll(() => problems.length).toBeGreaterThan(0)
    expect(problems[0]).toMatchObject({ name: 'ConveyorError', kind: 'unavailable', retryable: true })
    await signal('SIGCONT')

    expect(await store.get(build.id)).toMatchObject({ id: build.id })
    expect(await store.accept(push('main'))).toMatchObject({ outcome: 'joined' })
    await queue.send({ buildId: build.id, repository: 'acme/app' })
    expect(await received).toMatchObject({ buildId: build.id })
    stop.abort()
    await queue.close()
    await store.close()
    await database.close()
  })
})

describe('listening', () => {
  it('receives notifications of another process, even after a reconnect, until it stops', async () => {
    const [database, other] = [new Postgres({ url }), new Postgres({ url })]
    const heard: (string | null)[] = []
    const stops = await Promise.all([
      database.listener.listen('news', (payload) => void heard.push(payload)),
      database.listener.listen('more', (payload) => void heard.push(payload)),
    ])
    await other.query(`select pg_notify('news', 'one'), pg_notify('more', 'two'), pg_notify('else', 'no')`)
    await expect.poll(() => heard).toEqual(['one', 'two'])

    await other.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    )
    // Each null says that notifications may have been missed.
    await expect.poll(() => heard).toEqual(['one', 'two', null, null])
    await other.query(`select pg_notify('news', 'three')`)
    await expect.poll(() => heard.at(-1)).toBe('three')

    for (const stop of stops) stop()
    await other.query(`select pg_notify('news', 'four')`)
    await sleep(100)
    expect(heard.at(-1)).toBe('three')
    await database.close()
    await other.close()
  })
})

describe('a lock', () => {
  it('is held by one process at a time, and released when its connection breaks', async () => {
    const [one, other] = [new Postgres({ url }), new Postgres({ url })]
    const order: string[] = []
    const holding = Promise.withResolvers<void>()
    const first = one.withLock('x', async () => {
      order.push('first')
      holding.resolve()
      await other.query(
        `select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted and pid <> pg_backend_pid()`,
      )
      await expect.poll(() => order).toEqual(['first', 'second'])
    })
    first.catch(() => {}) // expected below
    await holding.promise
    await other.withLock('x', async () => void order.push('second'))
    await expect(first).rejects.toMatchObject({ name: 'ConveyorError', kind: 'unavailable' })
    expect(await one.withLock('x', async () => 'again')).toBe('again')
    await one.close()
    await other.close()
  })
})
