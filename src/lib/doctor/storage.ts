import { randomUUID } from 'node:crypto'
import { dirname, join, relative } from 'node:path'
import type { Config } from '../config/config.ts'
import { toConveyorError } from '../core/errors.ts'
import { Postgres } from '../db/postgres.ts'
import type { LogStore } from '../logs/log-store.ts'
import type { Queue } from '../queue/queue.ts'
import { broken, type Check, type Finding, ok, warning } from './check.ts'
import { folder } from './folder.ts'

/** Opens remote storage: SQS; S3 and CloudWatch. */
export interface Openers {
  /** @param warn receives warnings about the queue */
  queue(warn: (line: string) => void): Promise<Queue>
  logs(): Promise<LogStore>
}

const TABLES = `
  select current_setting('server_version') as version, pg_is_in_recovery() as standby,
    to_regclass('builds') is not null as there,
    coalesce(has_schema_privilege(current_schema(), 'create'), false) as may`

/** Checks where builds, their queue and their logs are stored. Creates nothing there; the server does. */
export function storageChecks(config: Config, openers: Openers): Check[] {
  return [
    { part: 'data', run: () => folder(config.dataDir) },
    { part: 'builds', run: () => builds(config) },
    { part: 'queue', run: () => queue(config, openers) },
    { part: 'logs', run: () => logs(config, openers) },
  ]
}

async function builds({ db, dataDir }: Config): Promise<Finding> {
  if (db.kind === 'postgres') return postgres(db.url)
  const within = !relative(dataDir, db.file).startsWith('..')
  return within ? ok(`SQLite, ${db.file}`) : folder(dirname(db.file))
}

async function queue({ queue }: Config, openers: Openers): Promise<Finding> {
  if (queue.kind === 'memory') return ok('in memory: the server runs the builds itself')
  if (queue.kind === 'postgres')
    return queue.url === null ? ok('in the database of the builds') : postgres(queue.url)
  const warnings: string[] = []
  const opened = await openers.queue((line) => warnings.push(line))
  try {
    const depth = await opened.depth?.()
    const found = `${queue.url}, ${depth?.ready ?? 0} builds waiting`
    return warnings.length === 0 ? ok(found) : warning(found, warnings.join('. '))
  } finally {
    await opened.close()
  }
}

async function logs({ logger, dataDir }: Config, openers: Openers): Promise<Finding> {
  switch (logger.kind) {
    case 'stdout':
      return ok(`standard output, and a copy in ${join(dataDir, 'logs')}`)
    case 'file':
      return folder(logger.dir)
    case 'postgres':
      return ok('in the database of the builds')
    case 's3':
      return readable(`s3://${logger.bucket}`, openers)
    case 'cloudwatch':
      return readable(`log group ${logger.group}`, openers)
  }
}

/** Reads the log of a build that does not exist: missing permissions or storage give another error than that. */
async function readable(where: string, openers: Openers): Promise<Finding> {
  const store = await openers.logs()
  try {
    for await (const _ of store.read(randomUUID(), { follow: false })) break
    return (await writeProblem(store)) ?? ok(`${where}, reachable`)
  } finally {
    await store.close()
  }
}

/** What prevents writing logs, or null. */
async function writeProblem(store: LogStore): Promise<Finding | null> {
  try {
    await store.checkWrites?.({ trace: false })
    return null
  } catch (thrown) {
    const error = toConveyorError(thrown, 'not writable')
    // Servers only read logs.
    if (error.kind === 'unauthorized') {
      return warning(error.message, 'Only workers need write access: see docs/deploy.md')
    }
    throw error
  }
}

async function postgres(url: string): Promise<Finding> {
  const database = new Postgres({ url })
  try {
    const [row] = await database.query<{ version: string; standby: boolean; there: boolean; may: boolean }>(
      TABLES,
    )
    const found = `${database.where}, Postgres ${row?.version}`
    if (row?.standby) return broken(`${found}, is a read-only standby`, 'Use the address of the primary')
    if (row?.there) return ok(found)
    if (row?.may) return ok(`${found}; tables will be created at the first start`)
    return broken(
      `${found}, has no tables, and its user may not create any`,
      'Make the user in its URL the owner of the database, or grant it CREATE on the schema',
    )
  } finally {
    await database.close()
  }
}
