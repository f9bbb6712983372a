import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { BuildFilter } from '../../src/lib/store/build-list.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { tempDir } from '../../test/support/temp.ts'
import { percentile } from '../report/stats.ts'
import { say } from '../support/run.ts'
import { type LargeStore, largePostgres, largeSqlite, shaOf } from './large-store.ts'

/** Milliseconds of one kind of list. */
interface Timing {
  what: string
  p50: number
  p99: number
}

/** How long lists take in a store with many builds, by database. */
export type ListsResult = Record<string, { builds: number; migratedMs: number; timings: Timing[] }>

const BUILDS = 1_000_000
const ROUNDS = 100
const LIMIT = 50

/** What people filter by; some of it is rare, or does not exist. */
function filters(builds: number): [string, BuildFilter][] {
  const since = new Date(Date.parse('2026-01-01T00:00:00Z') + (builds - 2880) * 30_000).toISOString()
  const repository = 'acme/service-0'
  const small = 'acme/service-77'
  const few = `feature/${Math.floor(builds / 3 / 40)}`
  return [
    ['everything', {}],
    ['a large repository', { repository }],
    ['a small repository', { repository: small }],
    ['an unknown repository', { repository: 'acme/none' }],
    ['branch main', { branch: 'main' }],
    ['branch main of a repository', { repository, branch: 'main' }],
    ['a branch with few builds', { branch: few }],
    ['an unknown branch', { branch: 'none' }],
    ['failed', { state: 'failed' }],
    ['cancelled (1 in 100,000)', { state: 'cancelled' }],
    ['pending (none)', { state: 'pending' }],
    ['failed, of a repository', { repository, state: 'failed' }],
    ['cancelled, of a small repository', { repository: small, state: 'cancelled' }],
    ['failed, branch main', { branch: 'main', state: 'failed' }],
    ['cancelled, branch main', { branch: 'main', state: 'cancelled' }],
    ['failed, branch main of a repository', { repository, branch: 'main', state: 'failed' }],
    ['failed, a branch with few builds', { branch: few, state: 'failed' }],
    ['the last day', { since }],
    ['cancelled, the last day', { since, state: 'cancelled' }],
    ['failed, branch main, the last day', { since, branch: 'main', state: 'failed' }],
    ['text in many titles', { text: 'cache' }],
    ['text in one title', { text: `(#${builds - 5000})` }],
    ['text that matches nothing', { text: 'no such thing' }],
    ['text that matches nothing, of a repository', { repository, text: 'no such thing' }],
    ['text that matches nothing, branch main', { branch: 'main', text: 'no such thing' }],
    ['text that matches nothing, failed', { state: 'failed', text: 'no such thing' }],
    ['text: an old sha', { text: shaOf(17) }],
    ['text: 8 digits of an old sha', { text: shaOf(17).slice(0, 8) }],
    ['text: 8 digits of no sha', { text: '00000000' }],
    ['a reader of 1 repository', { allowed: [small] }],
    ['a reader of 111 repositories', { allowed: ['acme/service-1*'] }],
    [
      'a reader of 11 repositories, failed',
      { allowed: ['acme/service-7?', 'acme/service-7*1'], state: 'failed' },
    ],
    ['a reader of all repositories, text', { allowed: ['acme/*'], text: 'no such thing' }],
    ['a reader of 111 repositories, text', { allowed: ['acme/service-1*'], text: 'no such thing' }],
  ]
}

/** Times every kind of list on its first page and, if there is one, the next, in turns. */
async function timeLists({ store, migratedMs }: LargeStore, builds: number) {
  const times = new Map<string, number[]>()
  const time = async <T>(what: string, work: () => Promise<T>): Promise<T> => {
    const began = performance.now()
    const result = await work()
    const took = performance.now() - began
    times.set(what, [...(times.get(what) ?? []), took])
    return result
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (const [what, filter] of filters(builds)) {
      const { next } = await time(what, () => store.list(filter, { limit: LIMIT }))
      if (next) await time(what, () => store.list(filter, { limit: LIMIT, cursor: next }))
    }
    await others(store, time)
  }
  const timings = [...times].map(([what, all]) => ({
    what,
    p50: percentile(all, 50),
    p99: percentile(all, 99),
  }))
  return { builds, migratedMs, timings }
}

async function others(
  store: BuildStore,
  time: <T>(what: string, work: () => Promise<T>) => Promise<T>,
): Promise<void> {
  await time('repositories', () => store.repositories({ limit: LIMIT }))
  await time('repositories of a reader of 111', () =>
    store.repositories({ limit: LIMIT, allowed: ['acme/service-1*'] }),
  )
  await time('branches of a large repository', () => store.branches('acme/service-0', LIMIT))
}

/** Fills stores with a million builds and times lists of builds. */
export async function measureLists(builds = BUILDS): Promise<ListsResult> {
  const result: ListsResult = {}
  await using folder = await tempDir('conveyor-lists-')
  say(`filling SQLite with ${builds} builds`)
  const file = join(folder.path, 'conveyor.db')
  const sqlite = await largeSqlite(file, builds)
  result.SQLite = await timeLists(sqlite, builds)
  await sqlite.store.close()
  listsLines(result).map(say)
  await rm(file)

  say(`filling Postgres with ${builds} builds`)
  await using postgres = await startPostgres({ fsync: true })
  const large = await largePostgres(await postgres.database(), builds)
  result.Postgres = await timeLists(large, builds)
  await large.store.close()
  return result
}

/** For the terminal and the report. */
export function listsLines(result: ListsResult): string[] {
  return Object.entries(result).flatMap(([database, { builds, migratedMs, timings }]) => [
    `${database}, ${builds.toLocaleString('en')} builds, migrated in ${(migratedMs / 1000).toFixed(1)} s`,
    ...timings.map(
      ({ what, p50, p99 }) => `${what.padEnd(45)} p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
    ),
  ])
}

if (import.meta.main)
  for (const line of listsLines(await measureLists(Number(process.argv[2] ?? BUILDS)))) say(line)
