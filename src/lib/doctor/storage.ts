import { randomUUID } from 'node:crypto'
import { dirname, join, relative } from 'node:path'
import type { Config } from '../config/config.ts'
import { toConveyorError } from '../core/errors.ts'
import { Postgres } from '../db/postgres.ts'
import type { LogStore } from '../logs/log-store.ts'
import type { Queue } from '../queue/queue.ts'
import { broken, type Check, type Finding, ok, warning } from './check.ts'
import { folder } from './folder.ts'

/** How the parts are opened that are elsewhere: SQS; S3 and CloudWatch. */
export interface Openers {
  /** @param warn told what is not as it should be */
  queue(warn: (line: string) => void): Promise<Queue>
  logs(): Promise<LogStore>
}

const TABLES = `
  select current_setting('server_version') as version, pg_is_in_recovery() as standby,
    to_regclass('builds') is not null as there,
    coalesce(has_schema_privilege(current_schema(), 'create'), false) as may`

/** Where builds, their queue and their logs are kept. Nothing is made there: that is the server's to do. */
export function storageChecks(config: Config, openers: Openers): Check[] {
  return [
    { part: 'data', ask: () => folder(config.dataDir) },
    { part: 'builds', ask: () => builds(config) },
    { part: 'queue', ask: () => queue(config, openers) },
    { part: 'logs', ask: () => logs(config, openers) },
  ]
}

async function builds({ db, dataDir }: Config): Promise<Finding> {
  if (db.kind === 'postgres') return postgres(db.url)
  const within = !relative(dataDir, db.file).startsWith('..')
  return within ? ok(`SQLite, ${db.file}`) : folder(dirname(db.file))
}

async function queue({ queue }: Config, openers: Openers): Promise<Finding> {
  if (queue.kind === 'memory') return ok('in memory: the server builds what it accepts')
  if (queue.kind === 'postgres') return queue.url === null ? ok('with the builds') : postgres(queue.url)
  const warnings: string[] = []
  const opened = await openers.queue((line) => warnings.push(line))
  try {
    const depth = await opened.depth?.()
    const found = `${queue.url}, ${depth?.ready ?? 0} builds wait`
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
      return ok('with the builds')
    case 's3':
      return readable(`s3://${logger.bucket}`, openers)
    case 'cloudwatch':
      return readable(`log group ${logger.group}`, openers)
  }
}

/** Reads the log of a build that there is not: who may not, or from where there is nothing, gets another answer. */
async function readable(where: string, openers: Openers): Promise<Finding> {
  const store = await openers.logs()
  try {
    for await (const _ of store.read(randomUUID(), { follow: false })) break
    return (await whetherSafe(store)) ?? ok(`${where}, which answers`)
  } finally {
    await store.close()
  }
}

/** What is wrong with writing there, if anything is. */
async function whetherSafe(store: LogStore): Promise<Finding | null> {
  try {
    await store.checkWrites?.({ trace: false })
    return null
  } catch (thrown) {
    const error = toConveyorError(thrown, 'it cannot be written')
    // Servers only read there.
    if (error.kind === 'unauthorized') {
      return warning(error.message, 'Workers need that, servers do not: see docs/deploy.md')
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
    if (row?.standby)
      return broken(`${found}, is a standby that takes no writes`, 'Give the address of the primary')
    if (row?.there) return ok(found)
    if (row?.may) return ok(`${found}; tables are made at the first start`)
    return broken(
      `${found}, has no tables, and its user may make none`,
      'Make the user of its URL the owner of the database, or grant it the right to create tables',
    )
  } finally {
    await database.close()
  }
}
