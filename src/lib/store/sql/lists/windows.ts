import { type RawBuilder, sql } from 'kysely'
import type { BuildState } from '../../../core/build.ts'
import type { Queries } from '../schema.ts'

/**
 * How lists find builds. An index gives the newest builds that fit one part of the filter: the window. Those of the
 * window that fit the rest are listed; the next page goes on below it. So no filter takes long, however few fit.
 */

/** The largest window, in builds: looking through it takes some milliseconds. */
const WINDOW = 5000
/** The size of the first one, as most filters fit many builds. */
const FIRST_WINDOW = 500
/** A state with at most so many builds is rare: these are looked through rather than those of the branch. */
const RARE = 1000
/** Windows of so many repositories are read separately; of more, one window of all repositories. */
const MOST_PARTS = 100

/** What builds must fit; the text is in lower case. */
export interface Wanted {
  /** Keys of repositories; null for all. */
  repositories: string[] | null
  branch?: string | undefined
  state?: BuildState | undefined
  /** Contained in the build's searched text. */
  text?: string | undefined
  /** The sha begins with it, which has at least 7 digits. */
  sha?: string | undefined
}

/** Builds are listed from the sequence number below `below` down to `floor`. */
export interface Range {
  below: number
  floor: number
}

/** The sequence numbers of a page, newest first, and where the next one begins; null after the last. */
export interface Found {
  sequences: number[]
  below: number | null
}

type Index = 'sha' | 'state' | 'branch' | 'repository'

/** The newest `limit` builds of the range that fit. */
export async function findBuilds(db: Queries, wanted: Wanted, range: Range, limit: number): Promise<Found> {
  const index = await chooseIndex(db, wanted, range)
  const parts = partsOf(wanted)
  const rest = restOf(wanted, index, parts)
  const look = (size: number) =>
    lookThrough(db, window(wanted, index, parts, range, size), { rest, size, limit })
  if (rest.length === 0) return look(limit + 1)
  const first = await look(Math.ceil(FIRST_WINDOW / parts.length))
  const isFull = first.sequences.length === limit || first.below === null
  return isFull ? first : look(Math.ceil(WINDOW / parts.length))
}

/** The newest builds of a window that fit the rest. */
async function lookThrough(
  db: Queries,
  looked: RawBuilder<unknown>,
  { rest, size, limit }: { rest: Rest[]; size: number; limit: number },
): Promise<Found> {
  const { rows } = await sql<{ floor: number | null; sequence: number | null }>`
    with looked as (${looked})
    select scanned.floor, found.sequence
    from (
      select max(lowest) as floor
      from (select min(sequence) as lowest from looked group by part having count(*) >= ${size}) as full_parts
    ) as scanned
    left join (
      select newest.sequence from (select sequence from looked order by sequence desc limit ${WINDOW}) as newest
      ${conditions(rest)}
      order by newest.sequence desc limit ${limit + 1}
    ) as found on true`.execute(db)

  // The windows of several repositories end at different builds: below the newest of these, some may be missing.
  const floor = rows[0]?.floor == null ? null : Number(rows[0].floor)
  const sequences = rows
    .flatMap(({ sequence }) => (sequence === null ? [] : [Number(sequence)]))
    .filter((sequence) => floor === null || sequence >= floor)
    .sort((a, b) => b - a)
  if (sequences.length > limit)
    return { sequences: sequences.slice(0, limit), below: sequences[limit - 1] ?? null }
  return { sequences, below: floor }
}

/** Whether one of these repositories has a build whose sha begins with so many digits. */
export async function hasSha(
  db: Queries,
  wanted: Pick<Wanted, 'repositories'> & { sha: string },
  range: Range,
): Promise<boolean> {
  const { sequences } = await findBuilds(db, wanted, range, 1)
  return sequences.length > 0
}

async function chooseIndex(db: Queries, wanted: Wanted, range: Range): Promise<Index> {
  if (wanted.sha !== undefined) return 'sha'
  if (wanted.branch === undefined) return wanted.state === undefined ? 'repository' : 'state'
  if (wanted.state === undefined) return 'branch'
  const parts = partsOf(wanted)
  const { rows } = await sql<{ count: number }>`
    select count(*) as count from (${window(wanted, 'state', parts, range, RARE)}) as looked`.execute(db)
  return Number(rows[0]?.count) < RARE ? 'state' : 'branch'
}

function partsOf({ repositories }: Wanted): (string | null)[] {
  return repositories === null || repositories.length > MOST_PARTS ? [null] : repositories
}

/** SQL: `part` and `sequence` of the newest builds of each part, at most `size` each. */
function window(
  wanted: Wanted,
  index: Index,
  parts: (string | null)[],
  range: Range,
  size: number,
): RawBuilder<unknown> {
  const each = parts.map(
    (key, part) => sql`
      select cast(${part} as integer) as part, sequence
      from (${newest(wanted, index, key, range, size)}) as ${sql.ref(`part_${part}`)}`,
  )
  return sql.join(each, sql` union all `)
}

/** SQL: the newest builds that an index gives, in one repository or all. */
function newest(
  { branch, state, sha }: Wanted,
  index: Index,
  repository: string | null,
  { below, floor }: Range,
  size: number,
): RawBuilder<unknown> {
  const ofRepository = repository === null ? sql`` : sql`repository_key = ${repository} and`
  const isIn = (column: string) => sql`${sql.ref(column)} < ${below} and ${sql.ref(column)} >= ${floor}`
  const last = (column: string) => sql`order by ${sql.ref(column)} desc limit ${size}`
  switch (index) {
    case 'sha':
      // The plus keeps SQLite from going through all builds by number.
      return sql`
        select sequence from builds
        where ${ofRepository} sha >= ${sha} and sha < ${`${sha}g`}
          and +sequence < ${below} and +sequence >= ${floor}
        order by +sequence desc limit ${size}`
    case 'branch':
      return sql`
        select build_sequence as sequence from build_refs
        where ${ofRepository} kind = 'branch' and name = ${branch} and ${isIn('build_sequence')}
        ${last('build_sequence')}`
    case 'state':
      return sql`
        select sequence from builds
        where ${ofRepository} state = ${state} and ${isIn('sequence')} ${last('sequence')}`
    case 'repository':
      return sql`select sequence from builds where ${ofRepository} ${isIn('sequence')} ${last('sequence')}`
  }
}

type Rest = { table: 'builds' | 'build_texts'; condition: RawBuilder<unknown> }

/** What the index does not check. */
function restOf(wanted: Wanted, index: Index, parts: (string | null)[]): Rest[] {
  const { repositories, branch, state, text } = wanted
  const rest: Rest[] = []
  if (repositories !== null && parts[0] === null) {
    const keys = sql.join(repositories)
    rest.push({ table: 'builds', condition: sql`builds.repository_key in (${keys})` })
  }
  if (state !== undefined && index !== 'state') {
    rest.push({ table: 'builds', condition: sql`builds.state = ${state}` })
  }
  if (branch !== undefined && index !== 'branch') {
    const condition = sql`exists (
      select 1 from build_refs
      where build_refs.build_id = builds.id and build_refs.kind = 'branch' and build_refs.name = ${branch})`
    rest.push({ table: 'builds', condition })
  }
  if (text !== undefined) {
    const pattern = `%${text.replace(/[\\%_]/g, '\\$&')}%`
    const contains = sql`build_texts.text like ${pattern} escape '\\'`
    // Longer ones are looked up by index.
    const isStart = /^[0-9a-f]{1,6}$/.test(text)
    const begins = sql`substr(build_texts.sha, 1, ${text.length}) = ${text}`
    rest.push({ table: 'build_texts', condition: isStart ? sql`(${begins} or ${contains})` : contains })
  }
  return rest
}

/**
 * SQL: the conditions, each on the row of its table. As subqueries, which databases evaluate row by row, newest first,
 * until there are enough: for a join, Postgres reads the whole table.
 */
function conditions(rest: Rest[]): RawBuilder<unknown> {
  if (rest.length === 0) return sql``
  const each = ['builds', 'build_texts'].flatMap((table) => {
    const own = rest.filter((one) => one.table === table).map(({ condition }) => condition)
    if (own.length === 0) return []
    const sequence = sql.ref(`${table}.sequence`)
    return [
      sql`(
      select ${sql.join(own, sql` and `)} from ${sql.table(table)} where ${sequence} = newest.sequence
    )`,
    ]
  })
  return sql`where ${sql.join(each, sql` and `)}`
}
