import { existsSync } from 'node:fs'
import pg from 'pg'
import { expect, test } from 'vitest'
import { startPostgres } from '../support/postgres.ts'
import { isRunning } from '../support/processes.ts'

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

test('a private Postgres server: empty databases, kept over a stop and a crash, gone at the end', async () => {
  const postgres = await startPostgres()
  const [one, other] = await Promise.all([postgres.database(), postgres.database()])
  await query(one, 'create table t as select 1 as kept')
  expect(await query(other, `select to_regclass('t') as missing`)).toEqual([{ missing: null }])

  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    await postgres.stop(signal)
    await expect(query(one, 'select 1')).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await postgres.start()
    expect(await query(one, 'select kept from t')).toEqual([{ kept: 1 }])
  }

  const { pid } = postgres
  const data = String((await query(one, 'show data_directory'))[0]?.data_directory)
  expect(existsSync(data)).toBe(true)
  expect(await isRunning(pid)).toBe(true)
  await postgres[Symbol.asyncDispose]()
  expect(await isRunning(pid)).toBe(false)
  expect(existsSync(data)).toBe(false)
})
