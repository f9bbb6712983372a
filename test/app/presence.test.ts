import { afterAll, beforeAll, expect, test } from 'vitest'
import type { WorkersJson } from '../../src/lib/api/fleet.ts'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { type ConveyorServer, spawnConveyor, startConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

/** Processes of `conveyor worker`, as GET /workers lists them. */

const resources = new AsyncDisposableStack()
let postgres: TestPostgres
let server: ConveyorServer
let env: NodeJS.ProcessEnv
let url: string

beforeAll(async () => {
  postgres = resources.use(await startPostgres())
  url = await postgres.database()
  const data = resources.use(await tempDir('conveyor-presence-'))
  env = {
    ...{ PORT: '0', HOST: '127.0.0.1', DATA_DIR: data.path, DOCKER_CONFIG: data.path },
    ...{
      DATABASE_URL: url,
      QUEUE: 'postgres://',
      REGISTRY: '127.0.0.1:1',
      GITHUB_SECRET: 'x',
      GITHUB_TOKEN: 'y',
    },
    // A worker is there before its engine is.
    DOCKER_HOST: `unix://${data.path}/none.sock`,
  }
  server = resources.use(await startConveyor(['server'], { env }))
})
afterAll(() => resources.disposeAsync())

async function workers(): Promise<WorkersJson['workers']> {
  const answer = await fetch(`${server.url}/workers`, { headers: { accept: 'application/json' } })
  return ((await answer.json()) as WorkersJson).workers
}

const listed = async (pid: number | undefined) => (await workers()).filter((one) => one.pid === pid)

test('a worker is listed while it runs, and no longer once it has been told to end', async () => {
  const data = resources.use(await tempDir('conveyor-presence-'))
  await using worker = await spawnConveyor(['worker', '--workers', '3'], {
    env: { ...env, DATA_DIR: data.path },
  })
  const begun = Date.now()
  await expect.poll(() => listed(worker.pid)).toHaveLength(1)
  const [shown] = await listed(worker.pid)
  expect(shown).toMatchObject({ slots: 3, builds: [], warm: [], version: expect.stringMatching(/^\d/) })
  expect(Math.abs(Date.parse(shown?.started_at ?? '') - begun)).toBeLessThan(60_000)
  await worker.kill('SIGTERM')
  expect(await listed(worker.pid)).toEqual([])
})

test('a worker whose process was killed is listed for a minute', async () => {
  const data = resources.use(await tempDir('conveyor-presence-'))
  await using worker = await spawnConveyor(['worker'], { env: { ...env, DATA_DIR: data.path } })
  await expect.poll(() => listed(worker.pid)).toHaveLength(1)
  await worker.kill('SIGKILL')
  expect(await listed(worker.pid)).toHaveLength(1)
  await using database = Object.assign(new Postgres({ url, connections: 1 }), {
    async [Symbol.asyncDispose](this: Postgres) {
      await this.close()
    },
  })
  const [one] = await listed(worker.pid)
  // As if so much time had passed.
  const age = async (seconds: number) => {
    const seen = new Date(Date.parse(one?.seen_at ?? '') - seconds * 1000).toISOString()
    await database.query(`update workers set seen_at = '${seen}' where id = '${one?.id}'`)
    return listed(worker.pid)
  }
  expect(await age(20)).toHaveLength(1)
  expect(await age(61)).toEqual([])
})
