import { DatabaseSync } from 'node:sqlite'
import { type CompiledQuery, Kysely } from 'kysely'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { migrate } from '../../src/lib/db/migrate.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { kyselyBuildStore } from '../../src/lib/store/sql/kysely-build-store.ts'
import { migrations } from '../../src/lib/store/sql/migrations.ts'
import { clockTime, type Schema } from '../../src/lib/store/sql/schema.ts'
import { NodeSqliteDialect } from '../../src/lib/store/sqlite/dialect.ts'
import { OTHER_SHA, push, request, SHA, succeeded } from './contract/subject.ts'

/** How SQLite carries out what each push needs: it must not take longer the more pushes and builds there are. */

let database: DatabaseSync
let db: Kysely<Schema>
let store: BuildStore
let queries: CompiledQuery[] = []

beforeEach(async () => {
  database = new DatabaseSync(':memory:')
  db = new Kysely<Schema>({
    dialect: new NodeSqliteDialect(database, (thrown) => thrown as Error),
    log: (event) => void queries.push(event.query as CompiledQuery),
  })
  await migrate(db, { migrations, where: 'test' })
  store = kyselyBuildStore(db, {
    write: (work) => db.transaction().execute(work),
    writeInOrder: (work) => db.transaction().execute(work),
    lockImage: (_name, work) => work(),
    time: clockTime(),
    close: () => db.destroy(),
  })
  await store.accept(push('main'))
  queries = []
})
afterEach(() => store.close())

const SIGNED = { push: { before: SHA, after: OTHER_SHA, pushedAt: 1_767_225_600 } }
const PULL = {
  repository: 'acme/app',
  number: 7,
  title: 'a title',
  author: 'someone',
  head: { repository: 'acme/app', branch: 'topic', sha: OTHER_SHA },
  open: true,
  updatedAt: '2026-01-01T00:00:00.000Z',
}

/** All that becomes of some pushes, on every way that they can go. */
async function pushesInAllStates(): Promise<void> {
  await store.comparisons.restart()
  for (const supersede of ['queued', 'running'] as const) {
    await store.accept(push('topic', { ...SIGNED, supersede }))
    await store.accept(push('topic', { ...SIGNED, sha: OTHER_SHA, supersede }))
  }
  await store.accept(push('topic', { ...SIGNED, sha: OTHER_SHA }))
  await store.accept(request({ sha: OTHER_SHA }))
  const since = await store.reserveSequence()
  await store.accept(
    push('found', { sha: OTHER_SHA, source: { kind: 'server' }, found: { since: since - 1 } }),
  )
  for (const build of await store.unfinished()) {
    const claimed = await store.claimFor(build.id, 60)
    if (claimed === null || claimed === 'held') continue
    const { id, attempt, refs } = claimed
    await store.begin(id, attempt)
    await store.hold(id, attempt, 60)
    await store.cancelRequests([id])
    await store.beginPublish(id, attempt)
    await store.finish(id, attempt, refs.length, succeeded(['topic']))
  }
  await store.survived()
  await store.unqueued(0)
  await store.idle(0)
  await store.checkRuns.missing(0, 10)
  await store.comparisons.due(10)
  await store.comparisons.pushedSince('acme/app', 0)
  const candidate = { ref: { kind: 'branch' as const, name: 'topic' }, sha: SHA, object: SHA, before: null }
  await store.comparisons.unknown('acme/app', [candidate], 0)
  await store.pulls.put(PULL)
  await store.pulls.withHead('acme/app', SHA)
  await store.pulls.ofForksWith('acme/app', SHA)
  await store.pulls.uncleaned(10)
  await store.pulls.markCleaned(PULL)
  await store.notifications.ended(10)
  await store.notifications.dueTargets()
  await store.notifications.claim('target')
}

it('reads no more of a repository than what a push is about', async () => {
  await pushesInAllStates()
  const steps = queries.flatMap(({ sql, parameters }) =>
    database
      .prepare(`explain query plan ${sql}`)
      .all(...(parameters as (string | number)[]))
      .map(({ detail }) => ({ step: String(detail), sql })),
  )
  expect(steps.length).toBeGreaterThan(100)
  const tooMuch = steps.filter(
    ({ step, sql }) =>
      /^SCAN (pushes|builds|build_refs|built_refs|pulls|pull_heads|artifacts|notifications)\b/.test(step) ||
      // Except the greatest, which is at the index's end.
      (/^SEARCH pushes .*\(repository_key=\?\)/.test(step) && !sql.startsWith('select max(')) ||
      (/^SEARCH builds .*\(state=\?\)/.test(step) && /"repository_key" = /.test(sql)),
  )
  // These hold only what is still to be done.
  const ofWork = /INDEX (build_refs_unplaced|pulls_to_clean|notifications_due)/
  expect(tooMuch.filter(({ step }) => !ofWork.test(step))).toEqual([])
})

it('binds no value for a column of a partial index, or SQLite would plan the statement again each time', async () => {
  const columns = new Map<string, Set<string>>()
  for (const row of database.prepare(`select tbl_name, sql from sqlite_schema where type = 'index'`).all()) {
    const [, condition = ''] = String(row.sql).split(/ where /i)
    for (const [, name = ''] of condition.matchAll(/(\w+) = /g)) {
      const table = String(row.tbl_name)
      columns.set(table, (columns.get(table) ?? new Set()).add(name))
    }
  }
  expect(columns.get('pushes')).toEqual(new Set(['signed']))
  await pushesInAllStates()
  const bound = queries.filter(({ sql }) => {
    const [, ...conditions] = sql.split(/ where /)
    const tables = [...columns].filter(([table]) => sql.includes(`"${table}"`))
    return tables.some(([, names]) =>
      [...names].some((name) => new RegExp(`(?<!\\+)"?\\b${name}"? = \\?`).test(conditions.join(' '))),
    )
  })
  expect(bound.map(({ sql }) => sql)).toEqual([])
})
