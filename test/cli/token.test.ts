import { chmod, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isTokenText } from '../../src/lib/core/access/access-token.ts'
import { startPostgres } from '../support/postgres.ts'
import { type ConveyorServer, runConveyor, startConveyor } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** `conveyor token` as people use it: before there is a server, next to one, and over the network. */

let dir: TempDir
beforeAll(async () => {
  dir = await tempDir()
})
afterAll(() => dir[Symbol.asyncDispose]())

const env = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
  PATH: process.env.PATH,
  HOME: dir.path,
  ...more,
})
const run = (args: string[], more?: NodeJS.ProcessEnv) =>
  runConveyor(['token', ...args], { env: env(more), cwd: dir.path })
const rows = (stdout: string) =>
  stdout
    .trimEnd()
    .split('\n')
    .slice(1)
    .map((line) => line.split(/ {2,}/))

describe('conveyor token', () => {
  test('prints the token alone to standard output, and what it is good for to standard error', async () => {
    const local = { DATA_DIR: join(dir.path, 'alone') }
    const made = await run(
      ['create', 'ci', '--scope', 'build', '--repository', 'acme/*', '--expires', '90d'],
      local,
    )
    expect(made.code).toBe(0)
    expect(isTokenText(made.stdout.trimEnd())).toBe(true)
    expect(made.stderr).toMatch(
      /^warning: there was no database at .*conveyor\.db, so it was created\..*\ncreated the token ci: it can read builds and logs, and start, cancel, and retry builds, of acme\/\*; it expires at 2\d{3}-/,
    )
    expect(made.stderr).not.toContain(made.stdout.trim())
    const again = await run(['create', 'ci', '--scope', 'read'], local)
    expect(again.stderr).not.toContain('warning')
    expect([again.code, again.stdout]).toEqual([2, ''])
    expect(again.stderr).toContain('there is already a token named ci')
    const json = await run(['create', 'ops', '--scope', 'admin', '--json'], local)
    expect(JSON.parse(json.stdout)).toMatchObject({ name: 'ops', scope: 'admin', token: expect.any(String) })
    const list = await run(['list'], local)
    expect(rows(list.stdout).map((row) => row.slice(0, 3))).toEqual([
      ['ci', 'build', 'acme/*'],
      ['ops', 'admin', 'all'],
    ])
    expect(list.stdout).not.toContain('cvy_')
    expect((await run(['revoke', 'ci'], local)).code).toBe(0)
    expect((await run(['revoke', 'ci'], local)).code).toBe(2)
    // Given by mistake, it must not be shown again.
    const pasted = await run(['revoke', made.stdout.trim()], local)
    expect(pasted.code).toBe(2)
    expect(pasted.stderr).not.toContain('cvy_')
  })

  test('with Postgres, writes to the database', async () => {
    await using database = await startPostgres()
    const local = { DATABASE_URL: await database.database() }
    expect((await run(['create', 'ci', '--scope', 'read'], local)).code).toBe(0)
    expect(rows((await run(['list'], local)).stdout)[0]?.[0]).toBe('ci')
  })

  describe('next to a server', () => {
    let server: ConveyorServer
    const data = () => join(dir.path, 'data')
    const start = (dataDir: string) =>
      startConveyor(['server'], {
        env: env({
          DATA_DIR: dataDir,
          REGISTRY: 'registry.example',
          DOCKER_HOST: 'unix:///nowhere',
          PORT: '0',
        }),
        ready: /http:\/\/localhost:\d+/,
      })
    beforeAll(async () => {
      await mkdir(data())
      // As in Conveyor's image.
      await chmod(data(), 0o775)
      server = await start(data())
    })
    afterAll(() => server.kill())

    test('asks the server on its socket, or at its URL with an admin token, also if a server was killed before', async () => {
      const local = { DATA_DIR: data() }
      const admin = await run(['create', 'ops', '--scope', 'admin'], local)
      expect([admin.code, admin.stderr]).toEqual([0, expect.stringContaining('created the token ops')])
      const remote = { CONVEYOR_URL: server.url, CONVEYOR_TOKEN: admin.stdout.trim() }
      const made = await run(['create', 'grafana', '--scope', 'read'], remote)
      expect(made.code).toBe(0)
      const answer = await fetch(`${server.url}/`, {
        headers: { authorization: `Bearer ${made.stdout.trim()}`, 'x-forwarded-for': '203.0.113.7' },
      })
      expect(answer.status).toBe(200)
      expect(rows((await run(['list'], remote)).stdout).map(([name]) => name)).toEqual(['ops', 'grafana'])
      const refused = await run(['list'], { CONVEYOR_URL: server.url })
      expect(refused.code).toBe(2)
      expect(refused.stderr).toContain('This needs the scope admin')
      const mistyped = await run(['list'], { ...remote, CONVEYOR_TOKEN: `${made.stdout.trim()}x` })
      expect(mistyped.code).toBe(2)
      expect(mistyped.stderr).toContain('the token is mistyped or incomplete')
      expect(mistyped.stderr).not.toContain('cvy_')

      await server.kill('SIGKILL')
      expect((await run(['revoke', 'grafana'], local)).code).toBe(0)
      server = await start(data())
      expect(rows((await run(['list'], local)).stdout).map(([name]) => name)).toEqual(['ops'])
    })

    test('says what to do if the path of the socket is too long', async () => {
      const long = join(dir.path, 'd'.repeat(110))
      await mkdir(long, { mode: 0o700 })
      await using other = await start(long)
      await other.waitFor(/warning: `conveyor token` cannot reach this server without --url/)
      const answer = await run(['list'], { DATA_DIR: long })
      expect(answer.code).toBe(3)
      expect(answer.stderr).toMatch(
        /in use by another Conveyor.*a Unix socket can have 107; choose a shorter --data-dir, or give the --url/s,
      )
    })
  })
})
