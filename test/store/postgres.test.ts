import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { migratePostgres } from '../../src/lib/db/postgres-tables.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { projectRoot, start } from '../support/processes.ts'
import { buildStoreContract } from './build-store.contract.ts'
import { EARLIER, expectGoesOn, LEFT } from './contract/earlier.ts'
import { type OpenedStore, type OpenOptions, push, request, succeeded } from './contract/subject.ts'

let postgres: TestPostgres
/** A database with the tables. */
let migrated: string
beforeAll(async () => {
  postgres = await startPostgres()
  migrated = await postgres.database()
  await (await postgresBuildStore({ url: migrated })).close()
})
afterAll(() => postgres[Symbol.asyncDispose]())

function openInChild(url: string): string {
  return `import { postgresBuildStore } from ${JSON.stringify(`${projectRoot}src/lib/store/postgres.ts`)}
    const store = await postgresBuildStore({ url: ${JSON.stringify(url)} })`
}

buildStoreContract('Postgres', async (options: OpenOptions): Promise<OpenedStore> => {
  const url = await postgres.database(migrated)
  let store = await postgresBuildStore({ url, ...options })
  return {
    store,
    openInChild: openInChild(url),
    async reopen() {
      await store.close()
      store = await postgresBuildStore({ url, ...options })
      return store
    },
    dispose: () => store.close(),
  }
})

describe('Postgres build store', () => {
  let url: string
  const opened: BuildStore[] = []
  beforeEach(async () => {
    url = await postgres.database()
  })
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((store) => store.close()))
  })

  /** Several stores on one database, as in several processes. */
  async function stores(count: number): Promise<BuildStore[]> {
    const made = await Promise.all(Array.from({ length: count }, () => postgresBuildStore({ url })))
    opened.push(...made)
    return made
  }

  /** Whether somebody waits for a lock in this database, as `moveTags` does. */
  async function waitsForLock(): Promise<boolean> {
    const database = new Postgres({ url })
    try {
      const waiting = await database.query(
        `select 1 from pg_locks where locktype = 'advisory' and not granted
         and database = (select oid from pg_database where datname = current_database())`,
      )
      return waiting.length > 0
    } finally {
      await database.close()
    }
  }

  async function one(): Promise<BuildStore> {
    const [store] = await stores(1)
    if (!store) throw new Error('no store')
    return store
  }

  it('creates a secret once for several processes', async () => {
    const asked = await Promise.all(
      (await stores(4)).flatMap((store) => [store.secret('x'), store.secret('x')]),
    )
    expect(new Set(asked.map((bytes) => Buffer.from(bytes).toString('hex'))).size).toBe(1)
  })

  it('reads only what is requested, not the builds of all other repositories', async () => {
    const database = new Postgres({ url, connections: 1 })
    const store = await postgresBuildStore({ postgres: database })
    await database.query(`
      with made as (
        insert into builds (id, sequence, repository, repository_key, sha, cache, push_order, state, created_at)
        select gen_random_uuid()::text, i, 'acme/' || i % 300, 'acme/' || i % 300, md5(i::text), 1, i, 'succeeded', ''
        from generate_series(1, 20000) as i
        returning id
      ) insert into artifacts (id, build_id, image, tags, created_at) select id, id, 'image', '[]', '' from made`)
    await database.query('vacuum analyze builds')
    await database.query('vacuum analyze artifacts')
    const rowsRead = async () => {
      await database.query('select pg_stat_force_next_flush()')
      const [row] = await database.query<{ read: number }>(
        `select (seq_tup_read + idx_tup_fetch)::int as read from pg_stat_user_tables where relname = 'builds'`,
      )
      return row?.read ?? Number.NaN
    }
    const before = await rowsRead()
    expect(await store.lastArtifact('acme/new', [])).toBeNull()
    expect(await store.lastArtifact('acme/new', [{ kind: 'branch', name: 'main' }])).toBeNull()
    expect((await rowsRead()) - before).toBeLessThan(100)
    expect(await store.recentArtifacts(10)).toHaveLength(10)
    expect((await rowsRead()) - before).toBeLessThan(15_000)
    await store.close()
    await database.close()
  })

  it('is migrated once when many processes start at the same time', async () => {
    const children = await Promise.all(
      Array.from({ length: 3 }, () =>
        start(process.execPath, [
          '--input-type=module',
          '--eval',
          `${openInChild(url)}
          process.stdout.write(String(await store.reserveSequence()))
          await store.close()`,
        ]),
      ),
    )
    const here = await Promise.all((await stores(10)).map((store) => store.reserveSequence()))
    const exits = await Promise.all(children.map((child) => child.exited))
    expect(
      exits.map(({ code }) => code),
      children.map((child) => child.stderr()).join('\n'),
    ).toEqual([0, 0, 0])
    const numbers = [...here, ...children.map((child) => Number(child.stdout()))]
    expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 13 }, (_, i) => i + 1))
  })

  it('creates one build of a commit that many stores accept at once, with every ref', async () => {
    const branches = Array.from({ length: 40 }, (_, i) => `branch-${i}`)
    const processes = await stores(5)
    const accepted = await Promise.all(branches.map((branch, i) => processes[i % 5]?.accept(push(branch))))
    expect(new Set(accepted.map((answer) => answer?.build.id)).size).toBe(1)
    expect(accepted.filter((answer) => answer?.outcome === 'created')).toHaveLength(1)
    const [build] = (await processes[0]?.unfinished()) ?? []
    expect(build?.refs.map(({ name }) => name).toSorted()).toEqual(branches.toSorted())
    expect(build?.pushOrder).toBe(40)
  })

  it('creates one build for a delivery that reaches several stores at once', async () => {
    const asked = push('main')
    const answers = await Promise.all((await stores(8)).map((store) => store.accept(asked)))
    expect(new Set(answers.map(({ build }) => build.id)).size).toBe(1)
    expect(answers.filter(({ outcome }) => outcome === 'redelivered')).toHaveLength(7)
  })

  it('refuses values too long for an index, without failing concurrent requests', async () => {
    const store = await one()
    const wrong = randomBytes(20_000).toString('hex')
    const asked = [...Array(10).keys()].map((i) => {
      const source = { kind: 'webhook', delivery: i === 5 ? wrong : `right-${i}` } as const
      return store.accept(push('main', { sha: `${i}`.padStart(40, '0'), source }))
    })
    const answers = await Promise.allSettled(asked)
    expect(answers.map(({ status }) => status).filter((status) => status === 'fulfilled')).toHaveLength(9)
    expect(answers[5]).toMatchObject({
      status: 'rejected',
      reason: { name: 'ConveyorError', kind: 'invalid', retryable: false },
    })
    expect(await store.unfinished()).toHaveLength(9)
  })

  it('retries transactions that conflict with others', async () => {
    const [store, other] = [await one(), new Postgres({ url })]
    // Sequences are not rolled back, but the first two transactions are, as if each conflicted with another.
    await other.query(`
      create sequence tries;
      create function undo() returns trigger language plpgsql as $$ begin
        if nextval('tries') <= 2 then raise 'in the way' using errcode = '40001'; end if;
        return new;
      end $$;
      create trigger undo before insert or update on builds for each row execute function undo()`)
    const { build, outcome } = await store.accept(push('main'))
    expect(outcome).toBe('created')
    await other.query(`select setval('tries', 1, false)`)
    expect(await store.claim(build.id)).toMatchObject({ id: build.id, attempt: 1 })
    await other.query(`select setval('tries', 1, false)`)
    const group = await Promise.all(['a', 'b', 'c'].map((branch) => store.accept(push(branch))))
    expect(group.map((joined) => joined.build.id)).toEqual([build.id, build.id, build.id])
    await other.close()
  })

  it('never loses a ref that joins while another process finishes the build', async () => {
    const [server, worker] = (await stores(2)) as [BuildStore, BuildStore]
    const outcomes = new Set<string>()
    for (let round = 0; round < 40; round++) {
      const sha = round.toString(16).padStart(40, '0')
      const { build } = await server.accept(push('main', { sha }))
      const claimed = await worker.claim(build.id)
      if (!claimed) throw new Error('not claimed')
      // The join comes sometimes before, sometimes after, and sometimes during the finish.
      const [joined, finish] = await Promise.all([
        server.accept(push('dev', { sha })),
        sleep(round % 8).then(() => worker.finish(build.id, claimed.attempt, 1, succeeded())),
      ])
      outcomes.add(`${joined.outcome} ${finish}`)
      if (finish === 'refs_added') {
        expect(joined).toMatchObject({ outcome: 'joined', build: { id: build.id } })
        expect((await worker.get(build.id))?.refs.map(({ name }) => name)).toEqual(['main', 'dev'])
        expect(await worker.finish(build.id, claimed.attempt, 2, succeeded())).toBe('finished')
      } else {
        expect(finish).toBe('finished')
        expect(joined.outcome).toBe('created')
        expect(joined.build).toMatchObject({ state: 'pending', refs: [{ name: 'dev' }] })
        expect(joined.build.id).not.toBe(build.id)
      }
    }
    for (const outcome of outcomes) expect(['joined refs_added', 'created finished']).toContain(outcome)
  })

  it('gives a build to only one of the workers that claim it', async () => {
    const workers = await stores(6)
    const { build } = (await workers[0]?.accept(push('main'))) ?? {}
    const claims = await Promise.all(workers.map((store) => store.claimFor(String(build?.id), 60)))
    expect(claims.filter((claim) => claim === 'held')).toHaveLength(5)
    expect(claims.filter((claim) => claim !== 'held')).toMatchObject([{ id: build?.id, attempt: 1 }])
  })

  describe('leases of workers whose clocks are minutes off', () => {
    afterEach(() => void vi.useRealTimers())
    const clockIsOff = (seconds: number) =>
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + seconds * 1000 })

    /** The lease ends now, by the clock of the database. */
    async function endLease(id: string): Promise<void> {
      const database = new Postgres({ url })
      try {
        await database.query('update builds set held_until = created_at where id = $1', [id])
      } finally {
        await database.close()
      }
    }

    it.each([-7200, 7200])('end when they should, with a clock that is %i s off', async (seconds) => {
      const [skewed, right] = (await stores(2)) as [BuildStore, BuildStore]
      const { build } = await right.accept(push('main'))
      clockIsOff(seconds)
      expect(await skewed.claimFor(build.id, 3600)).toMatchObject({ attempt: 1 })
      vi.useRealTimers()
      expect(await right.claimFor(build.id, 3600)).toBe('held')
      clockIsOff(seconds)
      expect(await skewed.hold(build.id, 1, 3600)).toBe(true)
      vi.useRealTimers()
      expect(await right.claimFor(build.id, 3600)).toBe('held')
      clockIsOff(seconds)
      // A lease of 0 s has ended at once.
      expect(await skewed.hold(build.id, 1, 0)).toBe(true)
      vi.useRealTimers()
      await sleep(10)
      expect(await right.claimFor(build.id, 3600)).toMatchObject({ attempt: 2 })
    })

    it.each([-7200, 7200])('are not taken over by a worker whose clock is %i s off', async (seconds) => {
      const [skewed, right] = (await stores(2)) as [BuildStore, BuildStore]
      const { build } = await right.accept(push('main'))
      await right.claimFor(build.id, 3600)
      clockIsOff(seconds)
      expect(await skewed.claimFor(build.id, 3600)).toBe('held')
      await endLease(build.id)
      expect(await skewed.claimFor(build.id, 3600)).toMatchObject({ attempt: 2 })
    })

    it('builds become overdue by the clock of the database', async () => {
      const [skewed, right] = (await stores(2)) as [BuildStore, BuildStore]
      for (const [sha, seconds] of [
        ['c'.repeat(40), -240],
        ['d'.repeat(40), 240],
      ] as const) {
        const before = Date.now()
        clockIsOff(seconds)
        const { build } = await skewed.accept(push('main', { sha }))
        vi.useRealTimers()
        expect(Date.parse(build.createdAt)).toBeGreaterThan(before - 1000)
        expect(Date.parse(build.createdAt)).toBeLessThan(Date.now() + 1000)
        expect(await right.unqueued(60)).toEqual([])
      }
      await sleep(1100)
      expect(await right.unqueued(1)).toHaveLength(2)
    })
  })

  it('never moves a tag back, however the moves of several processes overlap', async () => {
    const processes = await stores(3)
    const tags = new Map<string, number>()
    const order = Array.from({ length: 45 }, (_, i) => i + 1).toSorted(() => Math.random() - 0.5)
    let inside = 0
    await Promise.all(
      order.map((sequence, i) =>
        processes[i % 3]?.moveTags(
          'registry.test/acme/app',
          [
            { tag: 'main', sequence },
            { tag: 'latest', sequence },
          ],
          async (tag) => {
            inside += 1
            expect(inside).toBeLessThanOrEqual(2)
            await sleep(Math.random() * 5)
            tags.set(tag, sequence)
            inside -= 1
          },
        ),
      ),
    )
    expect(Object.fromEntries(tags)).toEqual({ main: 45, latest: 45 })
  })

  it('moves tags of more images at once than it has connections', async () => {
    const store = await one()
    const images = Array.from({ length: 40 }, (_, i) => `registry.test/acme/app-${i}`)
    const moved = await Promise.all(
      images.map((image) => store.moveTags(image, [{ tag: 'main', sequence: 1 }], () => sleep(20))),
    )
    expect(moved.flat()).toHaveLength(40)
  })

  it('lets another process move tags when one dies while moving them', async () => {
    const child = await start(process.execPath, [
      '--input-type=module',
      '--eval',
      `${openInChild(url)}
      await store.moveTags('image', [{ tag: 'main', sequence: 5 }], () => {
        process.stdout.write('moving')
        return new Promise((resolve) => setTimeout(resolve, 1e9))
      })`,
    ])
    await child.waitFor(/moving/)
    const store = await one()
    const moved: string[] = []
    const next = store.moveTags('image', [{ tag: 'main', sequence: 6 }], async (tag) => void moved.push(tag))
    await expect.poll(waitsForLock).toBe(true)
    expect(moved).toEqual([])
    await child.kill('SIGKILL')
    expect(await next).toEqual(['main'])
    expect(await store.moveTags('image', [{ tag: 'main', sequence: 5 }], async () => {})).toEqual([])
  })

  it('uses shared connections, and leaves them open', async () => {
    const shared = new Postgres({ url })
    const store = await postgresBuildStore({ postgres: shared })
    const { build } = await store.accept(push('main'))
    await store.close()
    const ids = await shared.query<{ id: string }>('select id from builds')
    expect(ids).toEqual([{ id: build.id }])
    await shared.close()
    await expect(shared.query('select 1')).rejects.toMatchObject({ name: 'ConveyorError' })
  })

  it('knows the builds that a worker ran when it died, even when they are taken over at once', async () => {
    const [dead, ...others] = await stores(4)
    const ids: string[] = []
    for (let i = 0; i < 12; i++) {
      const accepted = await dead?.accept(push('main', { sha: i.toString(16).padStart(40, '0') }))
      ids.push(String(accepted?.build.id))
      await dead?.claim(ids[i] ?? '')
    }
    const taken = await Promise.all(ids.map((id, i) => others[i % 3]?.claim(id)))
    for (const build of taken) expect(build).toMatchObject({ attempt: 2, spared: 1, suspect: true })
  })

  it('takes no builds of a living worker for suspects, once that says so or takes them back', async () => {
    const [alive, other] = (await stores(2)) as [BuildStore, BuildStore]
    const ids: string[] = []
    for (const digit of ['1', '2', '3']) {
      const { build } = await alive.accept(push('main', { sha: digit.repeat(40) }))
      ids.push(build.id)
      await alive.claim(build.id)
    }
    const [taken = '', back = '', running = ''] = ids
    expect(await other.claim(taken)).toMatchObject({ suspect: true })
    const again = await alive.claim(back)
    expect([again?.attempt, again?.spared, again?.suspect]).toEqual([2, undefined, undefined])
    expect(await other.get(running)).toMatchObject({ suspect: true })
    await alive.survived()
    for (const id of ids) expect((await other.get(id))?.suspect).toBeUndefined()
  })

  it('upgrades the data of an earlier version', async () => {
    const earlier = new Postgres({ url })
    await migratePostgres(earlier, { name: 'store', first: 'builds', migrations: EARLIER })
    for (const statement of LEFT) await earlier.query(statement)
    await earlier.close()
    await expectGoesOn(await one())
  })

  it('refuses the data of a newer version', async () => {
    await one()
    const other = new Postgres({ url })
    await other.query(`insert into conveyor_store_migration values ('999_future', '2031-01-01T00:00:00Z')`)
    await other.close()
    await expect(postgresBuildStore({ url })).rejects.toMatchObject({
      name: 'ConveyorError',
      message: expect.stringContaining('was migrated by a newer version of Conveyor (it has 999_future)'),
      retryable: false,
    })
  })

  it('refuses a database with tables of another program', async () => {
    const other = new Postgres({ url })
    await other.query('create table builds (name text)')
    await other.close()
    await expect(postgresBuildStore({ url })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('has a table builds that belongs to another program'),
    })
  })

  describe('reports what is wrong, but never the password', () => {
    const change = (part: Partial<URL>) => Object.assign(new URL(url), part).href
    const cases: [string, () => string, object][] = [
      [
        'the password',
        () => change({ password: 'hunter2-wrong' }),
        { kind: 'unauthorized', message: expect.stringContaining('rejected the login'), retryable: false },
      ],
      [
        'no password',
        () => change({ password: '' }),
        { kind: 'unauthorized', message: expect.stringContaining('password') },
      ],
      [
        'the user',
        () => change({ username: 'nobody-known' }),
        { kind: 'unauthorized', message: expect.stringContaining('rejected the login') },
      ],
      [
        'the database',
        () => change({ pathname: '/not_there' }),
        {
          kind: 'not_found',
          message: expect.stringContaining('/not_there does not exist'),
          retryable: false,
        },
      ],
      [
        'the port',
        () => change({ port: '1' }),
        {
          kind: 'unavailable',
          message: expect.stringMatching(/127\.0\.0\.1:1\/.* does not respond/),
          retryable: true,
        },
      ],
      [
        'the URL',
        () => 'postgres://user:hunter2-wrong@[',
        { kind: 'invalid', message: expect.stringContaining('URL is invalid'), retryable: false },
      ],
    ]
    it.each(cases)('%s', async (_what, address, problem) => {
      const error = await postgresBuildStore({ url: address() }).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ name: 'ConveyorError', hint: expect.any(String), ...problem })
      const { password } = new URL(url)
      const { message, hint, stack, cause } = error as Error & { hint: string }
      const shown = JSON.stringify([message, hint, stack, cause, String(cause)])
      expect(shown).not.toContain(password)
      expect(shown).not.toContain('hunter2')
    })
  })

  describe('during an outage of the server', () => {
    it('fails as unavailable, and works again afterwards', async () => {
      const store = await one()
      await store.accept(push('main'))
      const { build } = await store.accept(request())
      const cut: string[] = []
      for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
        // Connections that are waiting break too: one holds a lock, one has an open transaction.
        const moving = store
          .moveTags(signal, [{ tag: 'main', sequence: 1 }], async () => {
            await postgres.stop(signal)
          })
          .catch((error) => void cut.push(error.kind))
        await moving
        const asked = [
          store.get(build.id),
          store.accept(push('dev')),
          store.accept(push('dev2')),
          store.claim(build.id),
          store.moveTags('image', [], async () => {}),
        ]
        for (const call of await Promise.allSettled(asked)) {
          expect(call).toMatchObject({
            status: 'rejected',
            reason: { name: 'ConveyorError', kind: 'unavailable', retryable: true },
          })
        }
        await postgres.start()
        expect(await store.get(build.id)).toEqual(build)
        expect((await store.accept(request())).outcome).toBe('joined')
        expect(await store.moveTags('image', [{ tag: signal, sequence: 1 }], async () => {})).toEqual([
          signal,
        ])
      }
      expect(cut).toEqual(['unavailable', 'unavailable'])
    })
  })
})
