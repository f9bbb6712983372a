import { type CompiledQuery, Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { BuildFilter } from '../../src/lib/store/build-list.ts'
import { postgresBuildStore } from '../../src/lib/store/postgres.ts'
import { listBuilds } from '../../src/lib/store/sql/lists/builds.ts'
import { listRefs, listRepositories } from '../../src/lib/store/sql/lists/repositories.ts'
import type { Schema } from '../../src/lib/store/sql/schema.ts'
import { startPostgres } from '../support/postgres.ts'

/**
 * How Postgres carries out the statements of lists, by its own account, with so many builds that reading all of them is
 * slower: it must read no large table from end to end.
 */

const BUILDS = 20_000
const resources = new AsyncDisposableStack()
let pool: pg.Pool
let db: Kysely<Schema>
let queries: CompiledQuery[] = []

beforeAll(async () => {
  const postgres = resources.use(await startPostgres())
  const url = await postgres.database()
  await (await postgresBuildStore({ url })).close()
  pool = new pg.Pool({ connectionString: url, max: 2 })
  // `end` does not wait until the server has closed the connections; it may be stopped before.
  pool.on('error', () => {})
  db = new Kysely<Schema>({
    dialect: new PostgresDialect({ pool }),
    log: (event) => void queries.push(event.query as CompiledQuery),
  })
  resources.defer(() => db.destroy())
  const numbers = `generate_series(1, ${BUILDS}) as i`
  const key = `'acme/' || i % 300`
  const branch = `case when i % 3 = 0 then 'main' else 'b' || i % 500 end`
  for (const statement of [
    `insert into builds (id, sequence, repository, repository_key, sha, cache, push_order, state, created_at)
     select i::text, i, ${key}, ${key}, md5(i::text) || '01234567', 1, i,
       case when i % 400 = 0 then 'failed' else 'succeeded' end,
       to_char(timestamp '2026-01-01' + i * interval '1 minute', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') from ${numbers}`,
    `insert into build_refs (build_id, kind, name, sequence, position, repository_key, build_sequence)
     select i::text, 'branch', ${branch}, i, 0, ${key}, i from ${numbers}`,
    `insert into build_texts (sequence, sha, text)
     select i, substr(md5(i::text), 1, 6), E'title of a commit\\n' || ${key} || E'\\n' || ${branch} from ${numbers}`,
    `insert into artifacts (id, build_id, image, tags, recipe, created_at)
     select i::text, i::text, repeat('i', 120), repeat('t', 200), repeat('r', 500), '' from ${numbers}`,
    `insert into pushes (sequence, repository_key, sha, kind, name, signed, unproven, again, build_id)
     select i, ${key}, md5(i::text), 'branch', ${branch}, 1, 0, 0, i::text from ${numbers}`,
    `insert into built_repositories select repository_key, max(sequence) from builds group by 1`,
    `insert into built_refs select repository_key, kind, name, max(build_sequence) from build_refs group by 1, 2, 3`,
    'vacuum analyze',
  ]) {
    await pool.query(statement)
  }
})
afterAll(() => resources.disposeAsync())

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Index Name'?: string
  Plans?: Plan[]
}

/** What the statements since the last call read: `builds_of_state`, or `all of builds`. */
async function reads(): Promise<string[]> {
  const asked = queries
  queries = []
  const found: string[] = []
  const walk = (plan: Plan) => {
    if (plan['Node Type'] === 'Seq Scan') found.push(`all of ${plan['Relation Name']}`)
    if (plan['Index Name'] !== undefined) found.push(plan['Index Name'])
    for (const one of plan.Plans ?? []) walk(one)
  }
  for (const { sql, parameters } of asked) {
    const { rows } = await pool.query(`explain (format json) ${sql}`, [...parameters])
    walk(rows[0]['QUERY PLAN'][0].Plan)
  }
  return found
}

const page = { limit: 50 }
const since = '2026-01-14T00:00:00Z'

it.each<[string, BuildFilter, string]>([
  ['all builds', {}, 'builds_sequence'],
  ['a repository', { repository: 'acme/7' }, 'builds_of_repository'],
  ['a state', { state: 'failed' }, 'builds_of_state'],
  ['a state of a repository', { repository: 'acme/7', state: 'succeeded' }, 'builds_of_repository'],
  ['a branch', { branch: 'b7' }, 'build_refs_of_name'],
  ['a branch of a repository', { repository: 'acme/7', branch: 'main' }, 'build_refs_of_repository'],
  ['a branch and a state', { branch: 'main', state: 'failed' }, 'builds_of_state'],
  ['a time', { since }, 'builds_by_age'],
  ['a text', { text: 'word' }, 'build_texts'],
  ['digits of a sha', { text: 'c4ca423' }, 'builds_of_sha'],
  ['builds before another', { branch: 'main', repository: 'acme/7', before: 10_000 }, 'build_refs_of'],
  ['allowed repositories', { allowed: ['acme/7', 'acme/8'] }, 'builds_of_repository'],
])('Postgres lists by %s with an index and reads no large table', async (_what, filter, index) => {
  queries = []
  await listBuilds(db, filter, page)
  const used = await reads()
  expect(used.filter((one) => one.startsWith(index))).not.toEqual([])
  expect(used.filter((one) => /^all of (?!built_repositories$)/.test(one))).toEqual([])
})

it('Postgres lists repositories and refs with indexes', async () => {
  queries = []
  await listRepositories(db, page)
  await listRefs(db, 'acme/7', 50)
  const used = await reads()
  expect(used.filter((one) => /^all of (?!built_repositories$)/.test(one))).toEqual([])
  expect(used.join()).toMatch(/built_refs_by_build|built_refs_key/)
})

it('a missing index shows', async () => {
  const client = await pool.connect()
  try {
    queries = []
    await listBuilds(db, { state: 'failed' }, page)
    const asked = queries
    await client.query('begin')
    await client.query('drop index builds_of_state')
    const plans = await Promise.all(
      asked.map(({ sql, parameters }) => client.query(`explain (format json) ${sql}`, [...parameters])),
    )
    expect(JSON.stringify(plans.map(({ rows }) => rows))).not.toContain('builds_of_state')
    await client.query('rollback')
  } finally {
    client.release()
  }
})
