import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import { migrate } from '../../src/lib/db/migrate.ts'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { migratePostgres } from '../../src/lib/db/postgres-tables.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import { migrations } from '../../src/lib/store/sql/migrations.ts'
import { NodeSqliteDialect } from '../../src/lib/store/sqlite/dialect.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'

/** A store with many builds, and how long it took to migrate it, in milliseconds. */
export interface LargeStore {
  store: BuildStore
  migratedMs: number
}

/** The tables before lists existed. */
const EARLIER = Object.fromEntries(Object.entries(migrations).filter(([name]) => name < '013'))
const REPOSITORIES = 500
const BATCH = 5000
const WORDS =
  'add fix the cache of build when push login page remove update test for new tag in server and'.split(' ')

/** Rows of the tables of builds, refs and artifacts. */
type Row = (string | number | null)[]
interface Rows {
  builds: Row[]
  build_refs: Row[]
  artifacts: Row[]
  titles: Row[]
}

const COLUMNS = {
  builds:
    'id, sequence, repository, repository_key, sha, default_branch, cache, push_order, state, attempt, reported, created_at',
  build_refs: 'build_id, kind, name, sequence, position',
  artifacts: 'id, build_id, image, tags, created_at',
} as const

/**
 * Builds like those of a company: one repository has a tenth of them, and most others few; half of them are of branch
 * main, the others of branches with 20 builds; one in ten failed, and one in 100,000 was cancelled.
 */
function rowsOf(from: number, to: number): Rows {
  const rows: Rows = { builds: [], build_refs: [], artifacts: [], titles: [] }
  for (let i = from; i < to; i++) {
    const id = idOf(i)
    const chance = random(i)
    const repository = `acme/service-${chance % 10 === 0 ? 0 : Math.floor(random(i + 7e7) % REPOSITORIES)}`
    const branch = random(i + 3e7) % 2 === 0 ? 'main' : `feature/${Math.floor(i / 40)}`
    const state = i % 100_000 === 7 ? 'cancelled' : chance % 11 === 0 ? 'failed' : 'succeeded'
    const at = new Date(Date.parse('2026-01-01T00:00:00Z') + i * 30_000).toISOString()
    rows.builds.push([id, i, repository, repository, shaOf(i), 'main', 1, i, state, 1, 1, at])
    rows.build_refs.push([id, 'branch', branch, i, i])
    if (state === 'succeeded')
      rows.artifacts.push([id, id, `registry.test/${repository}@sha256:${shaOf(i)}`, '[]', at])
    rows.titles.push([i, titleOf(i)])
  }
  return rows
}

function titleOf(i: number): string {
  const word = (n: number) => WORDS[random(i * 8 + n) % WORDS.length]
  return `${word(0)} ${word(1)} ${word(2)} ${word(3)} ${word(4)} (#${i})`
}

/** The sha of a build. */
export function shaOf(i: number): string {
  return [1, 2, 3, 4, 5]
    .map((n) =>
      random(i * 5 + n)
        .toString(16)
        .padStart(8, '0'),
    )
    .join('')
}

function idOf(i: number): string {
  return `00000000-0000-4000-8000-${i.toString(16).padStart(12, '0')}`
}

/** Spreads numbers over 32 bits, the same in every run (MurmurHash3's finalizer). */
function random(seed: number): number {
  let h = seed | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** A SQLite store in `file`. */
export async function largeSqlite(file: string, builds: number): Promise<LargeStore> {
  const database = new DatabaseSync(file)
  const db = new Kysely<unknown>({
    dialect: new NodeSqliteDialect(database, (thrown) => thrown as Error),
  })
  await migrate(db, { migrations: EARLIER, where: file })
  const add = Object.entries(COLUMNS).map(([table, columns]) => {
    const values = columns.replaceAll(/\w+/g, '?')
    return [table, database.prepare(`insert into ${table} (${columns}) values (${values})`)] as const
  })
  const each = async (put: (rows: Rows) => void) => {
    database.exec('begin')
    for (let i = 1; i <= builds; i += BATCH) put(rowsOf(i, Math.min(i + BATCH, builds + 1)))
    database.exec('commit')
  }
  await each((rows) => {
    for (const [table, statement] of add) for (const row of rows[table as keyof Rows]) statement.run(...row)
  })
  await db.destroy()
  const began = performance.now()
  await (await sqliteBuildStore({ file })).close()
  const migratedMs = performance.now() - began
  const titled = new DatabaseSync(file)
  titled.exec('begin')
  const title = titled.prepare('update build_texts set text = ? || text where sequence = ?')
  for (let i = 1; i <= builds; i++) title.run(titleOf(i), i)
  titled.exec('commit')
  titled.close()
  return { store: await sqliteBuildStore({ file }), migratedMs }
}

/** A Postgres store in an empty database. */
export async function largePostgres(url: string, builds: number): Promise<LargeStore> {
  const postgres = new Postgres({ url, connections: 1 })
  await migratePostgres(postgres, { name: 'store', first: 'builds', migrations: EARLIER })
  for (let i = 1; i <= builds; i += BATCH) {
    const rows = rowsOf(i, Math.min(i + BATCH, builds + 1))
    for (const [table, columns] of Object.entries(COLUMNS)) {
      await postgres.query(
        `insert into ${table} (${columns})
         select made.* from json_array_elements($1::json) as given(row),
           lateral (select ${castsOf(columns)}) as made`,
        [JSON.stringify(rows[table as keyof Rows])],
      )
    }
  }
  await postgres.query('vacuum analyze')
  const began = performance.now()
  const store = await postgresBuildStore({ url })
  const migratedMs = performance.now() - began
  for (let i = 1; i <= builds; i += BATCH) {
    const { titles } = rowsOf(i, Math.min(i + BATCH, builds + 1))
    await postgres.query(
      `update build_texts set text = (given.row->>1) || text
       from json_array_elements($1::json) as given(row) where sequence = (given.row->>0)::bigint`,
      [JSON.stringify(titles)],
    )
  }
  await postgres.query('vacuum analyze')
  await postgres.close()
  return { store, migratedMs }
}

const NUMBERS = new Set(['sequence', 'cache', 'push_order', 'attempt', 'reported', 'position'])

function castsOf(columns: string): string {
  return columns
    .split(', ')
    .map((column, at) => `(given.row->>${at})${NUMBERS.has(column) ? '::bigint' : ''}`)
    .join(', ')
}
