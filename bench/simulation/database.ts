import { readFile } from 'node:fs/promises'
import pg from 'pg'
import type { TestPostgres } from '../../test/support/postgres.ts'

/** What a stretch of time cost the database server. */
export interface DatabaseFigures {
  transactionsPerSecond: number
  statementsPerSecond: number
  /** Inserted, changed and deleted rows. */
  rowsPerSecond: number
  /** CPU of the server's processes, as a share of one core. */
  cores: number
  connections: { mean: number; peak: number }
  /** Sessions that wait for a row or a table that another one has: how many, at once. */
  lockWaits: { mean: number; peak: number }
  deadlocks: number
  /** What sessions with a statement or a commit on its way were doing: how many at a time, most first. */
  doing: { what: string; sessions: number }[]
  /** Memory of the server's processes, shared memory counted once, in MiB. */
  memoryMiB: number
  /** The statements that took the server longest. */
  top: { statement: string; callsPerSecond: number; meanMs: number; share: number }[]
}

interface Counters {
  at: number
  cpuSeconds: number
  commits: number
  rollbacks: number
  rows: number
  deadlocks: number
  calls: number
}

/** Watches one database of a server, over a connection to another. */
export class DatabaseWatch implements AsyncDisposable {
  readonly #server: TestPostgres
  readonly #client: pg.Client
  readonly #database: string
  readonly #samples: { connections: number; waiting: number }[] = []
  readonly #doing = new Map<string, number>()
  #before: Counters | undefined
  #timer: NodeJS.Timeout | undefined

  private constructor(server: TestPostgres, client: pg.Client, database: string) {
    this.#server = server
    this.#client = client
    this.#database = database
  }

  /** @param aside URL of another database of the server, which has pg_stat_statements */
  static async open(server: TestPostgres, aside: string, database: string): Promise<DatabaseWatch> {
    const client = new pg.Client({ connectionString: aside })
    await client.connect()
    return new DatabaseWatch(server, client, database)
  }

  async begin(): Promise<void> {
    await this.#client.query('select pg_stat_statements_reset()')
    this.#before = await this.#count()
    this.#timer = setInterval(() => void this.#sample(), 500)
  }

  async end(): Promise<DatabaseFigures> {
    clearInterval(this.#timer)
    const [before, after] = [this.#before, await this.#count()]
    if (!before) throw new Error('end before begin')
    const seconds = (after.at - before.at) / 1000
    const perSecond = (counter: keyof Counters) => (after[counter] - before[counter]) / seconds
    return {
      transactionsPerSecond: perSecond('commits') + perSecond('rollbacks'),
      statementsPerSecond: perSecond('calls'),
      rowsPerSecond: perSecond('rows'),
      cores: perSecond('cpuSeconds'),
      connections: meanAndPeak(this.#samples.map(({ connections }) => connections)),
      lockWaits: meanAndPeak(this.#samples.map(({ waiting }) => waiting)),
      deadlocks: after.deadlocks - before.deadlocks,
      doing: [...this.#doing]
        .map(([what, seen]) => ({ what, sessions: seen / this.#samples.length }))
        .sort((a, b) => b.sessions - a.sessions),
      memoryMiB: await memoryOf(await serverProcesses(this.#server.pid)),
      top: await this.#top(seconds),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#client.end()
  }

  async #sample(): Promise<void> {
    const { rows } = await this.#client.query<{ state: string; doing: string; sessions: number }>(
      `select state, coalesce(wait_event_type || ' ' || wait_event, 'running') as doing, count(*)::int as sessions
       from pg_stat_activity where datname = $1 group by 1, 2`,
      [this.#database],
    )
    const count = (of: typeof rows) => of.reduce((sum, { sessions }) => sum + sessions, 0)
    this.#samples.push({
      connections: count(rows),
      waiting: count(rows.filter(({ doing }) => doing.startsWith('Lock '))),
    })
    for (const { state, doing, sessions } of rows)
      if (state === 'active') this.#doing.set(doing, (this.#doing.get(doing) ?? 0) + sessions)
  }

  async #count(): Promise<Counters> {
    const { rows } = await this.#client.query<Record<string, string>>(
      `select xact_commit as commits, xact_rollback as rollbacks, deadlocks,
         tup_inserted + tup_updated + tup_deleted as rows,
         (select coalesce(sum(calls), 0) from pg_stat_statements where dbid = datid and toplevel) as calls
       from pg_stat_database where datname = $1`,
      [this.#database],
    )
    const counter = (name: string) => Number(rows[0]?.[name])
    return {
      at: performance.now(),
      cpuSeconds: await cpuOf(this.#server.pid),
      commits: counter('commits'),
      rollbacks: counter('rollbacks'),
      rows: counter('rows'),
      deadlocks: counter('deadlocks'),
      calls: counter('calls'),
    }
  }

  async #top(seconds: number): Promise<DatabaseFigures['top']> {
    const { rows } = await this.#client.query<{ query: string; calls: string; ms: number; share: number }>(
      `select query, calls, total_exec_time as ms, total_exec_time / sum(total_exec_time) over () as share
       from pg_stat_statements join pg_database on pg_database.oid = dbid where datname = $1
       order by total_exec_time desc limit 12`,
      [this.#database],
    )
    return rows.map(({ query, calls, ms, share }) => ({
      statement: query.replace(/\s+/g, ' ').trim().slice(0, 160),
      callsPerSecond: Number(calls) / seconds,
      meanMs: ms / Number(calls),
      share,
    }))
  }
}

function meanAndPeak(numbers: number[]): { mean: number; peak: number } {
  const sum = numbers.reduce((total, number) => total + number, 0)
  return { mean: sum / Math.max(numbers.length, 1), peak: Math.max(0, ...numbers) }
}

/** The main process and its children, which all others are. */
async function serverProcesses(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return [pid, ...children.trim().split(' ').filter(Boolean).map(Number)]
}

/** CPU seconds of a server so far: of processes that run, and of those that have ended. */
async function cpuOf(server: number): Promise<number> {
  const times = await Promise.all((await serverProcesses(server)).map((pid) => cpuTimes(pid)))
  return times.reduce((sum, { own }) => sum + own, times[0]?.ofEnded ?? 0)
}

/** CPU seconds of one process so far. */
export async function cpuSeconds(pid: number): Promise<number> {
  return (await cpuTimes(pid)).own
}

/** The unit of /proc/PID/stat, the same on every Linux of today. */
const TICKS_PER_SECOND = 100

/** CPU seconds of a process, and of children of it that have ended. */
async function cpuTimes(pid: number): Promise<{ own: number; ofEnded: number }> {
  // Of a process that has just ended its parent has the time.
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [user = 0, system = 0, endedUser = 0, endedSystem = 0] = fields.slice(11, 15).map(Number)
  return {
    own: (user + system) / TICKS_PER_SECOND,
    ofEnded: (endedUser + endedSystem) / TICKS_PER_SECOND,
  }
}

/** Memory of processes in MiB: each its share of what it has in common with others. */
async function memoryOf(pids: number[]): Promise<number> {
  const sizes = await Promise.all(
    pids.map(async (pid) => {
      const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
      return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1] ?? 0)
    }),
  )
  return sizes.reduce((sum, size) => sum + size, 0) / 1024
}
