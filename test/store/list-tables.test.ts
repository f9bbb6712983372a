import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Postgres } from '../../src/lib/db/postgres.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { tempDir } from '../support/temp.ts'
import { OTHER_SHA, push, SHA } from './contract/subject.ts'

/** What lists are read from, where it takes more than the store itself to get there. */

interface Database extends AsyncDisposable {
  /** Opens the store, as a server does that starts. */
  open(): Promise<BuildStore>
  /** Runs a statement of another process, while no store is open: SQLite's has one process. */
  run(statement: string): Promise<Record<string, unknown>[]>
}

let postgres: TestPostgres
beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres[Symbol.asyncDispose]())

async function sqlite(): Promise<Database> {
  const dir = await tempDir()
  const file = join(dir.path, 'conveyor.db')
  return {
    open: () => sqliteBuildStore({ file }),
    async run(statement) {
      const database = new DatabaseSync(file)
      try {
        return database.prepare(statement).all()
      } finally {
        database.close()
      }
    },
    [Symbol.asyncDispose]: () => dir[Symbol.asyncDispose](),
  }
}

async function inPostgres(): Promise<Database> {
  const url = await postgres.database()
  const database = new Postgres({ url, connections: 1 })
  return {
    open: () => postgresBuildStore({ url }),
    run: (statement) => database.query(statement),
    [Symbol.asyncDispose]: () => database.close(),
  }
}

describe.each([
  ['SQLite', sqlite],
  ['Postgres', inPostgres],
])('%s', (_name, start) => {
  it('keeps the newest 10,000 ignored deliveries', async () => {
    await using database = await start()
    await (await database.open()).close()
    const now = new Date().toISOString()
    // More than that, as several servers may add some at the same time.
    await database.run(`
      insert into ignored_deliveries (number, id, event, reason, created_at)
      with recursive numbers (i) as (select 1 union all select i + 1 from numbers where i < 10025)
      select i, 'old-' || i, 'ping', 'pong', '${now}' from numbers`)
    await database.run(`update counters set value = 10025 where name = 'ignored'`)
    const store = await database.open()
    const add = (id: string) =>
      store.ignored.add({ id, event: 'ping', repository: 'acme/app', ref: null, reason: 'pong' })
    for (const id of ['new-1', 'new-2', 'new-3', 'new-4']) await add(id)
    const { deliveries } = await store.ignored.list({ limit: 5 })
    expect(deliveries.map(({ id }) => id)).toEqual(['new-4', 'new-3', 'new-2', 'new-1', 'old-10025'])
    await store.close()
    const [left] = await database.run(
      'select count(*) as many, min(number) as oldest from ignored_deliveries',
    )
    expect([Number(left?.many), Number(left?.oldest)]).toEqual([10_000, 30])
  })

  it('lists builds that a server of an earlier version adds after the migration, from the next start and build on', async () => {
    await using database = await start()
    const before = await database.open()
    const known = await before.accept(push('main', { repository: 'acme/known' }))
    await before.close()
    const last = known.build.sequence + 2
    const old = [
      { id: randomUUID(), sequence: last - 1, sha: SHA, name: 'main' },
      { id: randomUUID(), sequence: last, sha: OTHER_SHA, name: 'old/Branch' },
    ]
    for (const { id, sequence, sha, name } of old) {
      await database.run(
        `insert into builds (id, sequence, repository, repository_key, sha, cache, push_order, state, created_at)
         values ('${id}', ${sequence}, 'Acme/Old', 'acme/old', '${sha}', 1, ${sequence}, 'succeeded', '2026-01-01T00:00:00.000Z')`,
      )
      await database.run(
        `insert into build_refs (build_id, kind, name, sequence, position) values ('${id}', 'branch', '${name}', ${sequence}, 0)`,
      )
    }
    // Its push of another branch joins a build of a new server.
    await database.run(
      `insert into build_refs (build_id, kind, name, sequence, position) values ('${known.build.id}', 'branch', 'joined', ${last}, 1)`,
    )
    await database.run(`update counters set value = ${last} where name = 'sequence'`)

    const store = await database.open()
    const listed = async (filter: Parameters<BuildStore['list']>[0]) =>
      (await store.list(filter, { limit: 9 })).builds.map(({ build }) => build.id)
    expect(await listed({ branch: 'old/Branch' })).toEqual([])
    await store.accept(push('main', { repository: 'acme/new' }))
    expect(await listed({ branch: 'old/Branch' })).toEqual([old[1]?.id])
    expect(await listed({ repository: 'acme/old', branch: 'main' })).toEqual([old[0]?.id])
    expect(await listed({ branch: 'joined' })).toEqual([known.build.id])
    expect(await listed({ text: 'OLD/branch' })).toEqual([old[1]?.id])
    expect(await listed({ text: 'acme/old' })).toEqual([old[1]?.id, old[0]?.id])
    const { repositories } = await store.repositories({ limit: 9 })
    expect(repositories.map(({ name, last: { build } }) => [name, build.sequence])).toEqual([
      ['acme/new', last + 1],
      ['Acme/Old', last],
      ['acme/known', known.build.sequence],
    ])
    expect((await store.branches('acme/old', 9)).map(({ ref }) => ref.name)).toEqual(['old/Branch', 'main'])
    await store.close()
    const [unplaced] = await database.run(
      'select count(*) as many from build_refs where build_sequence is null',
    )
    expect(Number(unplaced?.many)).toBe(0)
  })
})
