import { DatabaseSync } from 'node:sqlite'
import { type CompiledQuery, Kysely } from 'kysely'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { migrate } from '../../src/lib/db/migrate.ts'
import type { BuildFilter } from '../../src/lib/store/build-list.ts'
import { listBuilds } from '../../src/lib/store/sql/lists/builds.ts'
import { listRefs, listRepositories } from '../../src/lib/store/sql/lists/repositories.ts'
import { migrations } from '../../src/lib/store/sql/migrations.ts'
import type { Schema } from '../../src/lib/store/sql/schema.ts'
import { NodeSqliteDialect } from '../../src/lib/store/sqlite/dialect.ts'

/** How SQLite carries out the statements of lists, by its own account: it must read no table from end to end. */
describe('the plan of a list', () => {
  let database: DatabaseSync
  let db: Kysely<Schema>
  let queries: CompiledQuery[]
  beforeEach(async () => {
    database = new DatabaseSync(':memory:')
    db = new Kysely<Schema>({
      dialect: new NodeSqliteDialect(database, (thrown) => thrown as Error),
      log: (event) => void queries.push(event.query as CompiledQuery),
    })
    queries = []
    await migrate(db, { migrations, where: 'test' })
    const repository = database.prepare(
      'insert into built_repositories (repository_key, last_sequence) values (?, ?)',
    )
    for (const key of ['acme/a', 'acme/b', 'other/c']) repository.run(key, 1)
    database.exec(`
      insert into builds (id, sequence, repository, repository_key, sha, cache, push_order, state, created_at)
      values ('1', 1, 'acme/a', 'acme/a', '${'0123456'.padEnd(40, '7')}', 1, 1, 'failed', '2026-02-01T00:00:00.000Z')`)
    queries = []
  })
  afterEach(() => db.destroy())

  /** The steps that read tables, of all statements since the last call. */
  function steps(): string[] {
    const plans = queries.flatMap(({ sql, parameters }) =>
      database.prepare(`explain query plan ${sql}`).all(...(parameters as (string | number)[])),
    )
    queries = []
    return (
      plans
        .map(({ detail }) => String(detail))
        .filter((detail) => /^(SCAN|SEARCH) /.test(detail))
        // Windows, which are small.
        .filter(
          (detail) =>
            !/^SCAN (looked|newest|scanned|found|part_\d+|full_parts|earliest|its_builds|\(subquery)/.test(
              detail,
            ),
        )
    )
  }

  const page = { limit: 50 }
  const since = '2026-01-01T00:00:00Z'

  it.each<[string, BuildFilter, RegExp]>([
    ['all builds', {}, /builds USING .*sqlite_autoindex_builds_2 \(sequence>\? AND sequence<\?\)/],
    ['a repository', { repository: 'acme/a' }, /builds_of_repository \(repository_key=\? AND sequence>\?/],
    ['a state', { state: 'failed' }, /builds_of_state \(state=\? AND sequence>\?/],
    [
      'a state of a repository',
      { repository: 'acme/a', state: 'failed' },
      /builds_of_repository_state \(repository_key=\? AND state=\? AND sequence>\?/,
    ],
    ['a branch', { branch: 'main' }, /build_refs_of_name \(kind=\? AND name=\? AND build_sequence>\?/],
    [
      'a branch of a repository',
      { repository: 'acme/a', branch: 'main' },
      /build_refs_of_repository \(repository_key=\? AND kind=\? AND name=\? AND build_sequence>\?/,
    ],
    [
      'a branch and a state',
      { branch: 'main', state: 'failed' },
      /builds_of_state \(state=\? AND sequence>\?/,
    ],
    ['a time', { since }, /builds_by_age \(created_at>\?\)/],
    ['a text', { text: 'word' }, /build_texts USING INTEGER PRIMARY KEY \(rowid=\?\)/],
    ['digits of a sha', { text: '0123456' }, /builds_of_sha \(sha>\? AND sha<\?\)/],
    [
      'digits of a sha in a repository',
      { repository: 'acme/a', text: '0123456' },
      /builds_of_commit \(repository_key=\? AND sha>\? AND sha<\?\)/,
    ],
    [
      'allowed repositories',
      { allowed: ['acme/*'] },
      /builds_of_repository \(repository_key=\? AND sequence>\?/,
    ],
    [
      'everything together',
      { repository: 'acme/a', branch: 'main', state: 'failed', since, text: 'word', allowed: ['acme/*'] },
      /builds_of_repository_state \(repository_key=\?/,
    ],
  ])('by %s uses its index and reads no whole table', async (_what, filter, index) => {
    await listBuilds(db, filter, page)
    const used = steps()
    const whole = used.filter(
      (step) => step.startsWith('SCAN ') && !step.startsWith('SCAN built_repositories'),
    )
    expect(whole).toEqual([])
    expect(used.filter((step) => index.test(step))).not.toEqual([])
  })

  it('of repositories and of refs uses indexes', async () => {
    await listRepositories(db, page)
    await listRefs(db, 'acme/a', 50)
    const used = steps()
    expect(used.filter((step) => step.startsWith('SCAN '))).toEqual([])
    expect(used.join('\n')).toMatch(/built_repositories_by_build/)
    expect(used.join('\n')).toMatch(/built_refs_by_build \(repository_key=\?\)/)
  })

  it('would show a missing index', async () => {
    database.exec('drop index builds_of_state')
    await listBuilds(db, { state: 'failed' }, page)
    expect(steps().join('\n')).not.toMatch(/builds_of_state/)
  })
})
