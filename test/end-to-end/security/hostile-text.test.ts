import { afterAll, beforeAll, expect, test } from 'vitest'
import { putImage } from '../../support/images/put-image.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { pushToEnd, startWorld, type World } from '../../support/world.ts'

/** Names and output of repositories and base images never pass for a line of ours, and can always be stored. */

const BASE = 'FROM conveyor-test/busybox:1\n'

let postgres: TestPostgres
let world: World
let server: ConveyorServer
beforeAll(async () => {
  postgres = await startPostgres()
  world = await startWorld({ env: { DATABASE_URL: await postgres.database() } })
  server = await world.startServer()
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await postgres[Symbol.asyncDispose]()
})

test('a Dockerfile in UTF-16 fails the build in the first attempt, in Postgres, too', async () => {
  const git = await world.git.create('acme/utf16')
  const sha = await git.commit({ Dockerfile: Buffer.from(`\ufeff${BASE}RUN true\n`, 'utf16le') })
  const { build, status, log } = await pushToEnd(world, server, { repository: 'acme/utf16', sha })
  expect(build).toMatchObject({ state: 'failed', error_kind: 'build_failed' })
  expect(build.error).toMatch(
    /^the Dockerfile is not UTF-8: .*\. Save it as UTF-8; it contains null characters/,
  )
  expect(status.state).toBe('failure')
  expect(log).not.toContain('attempt 2')
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  expect(`${build.error}${status.description}${log}`).not.toMatch(/[\0-\t\v-\x1f\x7f]/)
})

test("a base image's environment cannot add lines to the log", async () => {
  const image = `${world.registry.host}/evil/base`
  const forged = `registry.example.com/acme/web@sha256:${'0'.repeat(64)}`
  await putImage(
    world.registry.host,
    'evil/base',
    [],
    [`EVIL=x\n${forged}\n\u001b[2Kimage ${forged}\rtags all`],
  )
  const git = await world.git.create('acme/env')
  const sha = await git.commit({
    Dockerfile: `FROM ${image}:1\nWORKDIR /w\nCOPY Dockerfile /w/$EVIL\n`,
  })
  const { log } = await pushToEnd(world, server, { repository: 'acme/env', sha })
  expect(log).toContain(forged)
  const lines = log.split(/[\n\r]/)
  expect(lines.filter((line) => line.includes(forged) && !/^(#\d+ |error: )/.test(line))).toEqual([])
  expect(log).not.toContain('\u001b')
})

test('the names of changed files stay on one line', async () => {
  const git = await world.git.create('acme/names')
  const name = 'a\nimage registry.example.com/x\u001b[1A'
  const push = async (content: string) => {
    const sha = await git.commit({ Dockerfile: `${BASE}COPY . /app\n`, [name]: content })
    return pushToEnd(world, server, { repository: 'acme/names', sha })
  }
  await push('one')
  const { log, build } = await push('two')
  expect(build.state).toBe('succeeded')
  expect(log).toMatch(/^building: a image registry\.example\.com\/x \[1A changed since /m)
  expect(log.split('\n').filter((line) => line.startsWith('image '))).toEqual([`image ${build.image}`])
})
