import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import type { Build } from '../../src/lib/core/build.ts'
import { runConveyor, spawnConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import { IMAGE, sha, startTestServer, type TestServer } from '../support/test-server.ts'

/** The commands that show builds, against a server whose builds are those of this file. */

let server: TestServer
let failed: Build
let succeeded: Build
let running: Build
const LOG = Buffer.from('building\n#1 0.100 \xff\u00e9\r\n', 'latin1')

beforeAll(async () => {
  server = await startTestServer()
  failed = await server.begin(sha('a'), 'main')
  await server.writeLog(failed, LOG)
  await server.fail(failed, 'RUN make failed')
  await server.endLog(failed)
  succeeded = await server.begin(sha('b'), 'feature/x')
  await server.succeed(succeeded)
  running = await server.begin(sha('c'), 'main')
})
afterAll(() => server[Symbol.asyncDispose]())

const conveyor = (...args: string[]) => runConveyor(args, { env: { CONVEYOR_URL: server.url } })

async function fails(...args: string[]) {
  const { code, stdout, stderr } = await conveyor(...args)
  expect(stdout).toBe('')
  return { code, error: stderr }
}

describe('conveyor list', () => {
  test('prints a table, newest first', async () => {
    const { code, stdout, stderr } = await conveyor('list')
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const rows = stdout
      .split('\n')
      .map((line) => line.replace(/(?<= )\d[\d.]*[smhd](?= ago| {2})/g, 'T').split(/ {2,}/))
    expect(rows).toEqual([
      ['ID', 'STATE', 'REPOSITORY', 'REF', 'COMMIT', 'TITLE', 'TOOK', 'REQUESTED'],
      [running.id.slice(0, 8), 'building', 'acme/app', 'main', 'ccccccc', 'T', 'T ago'],
      [succeeded.id.slice(0, 8), 'succeeded', 'acme/app', 'feature/x', 'bbbbbbb', 'T', 'T ago'],
      [failed.id.slice(0, 8), 'failed', 'acme/app', 'main', 'aaaaaaa', 'T', 'T ago'],
      [''],
    ])
  })

  test('filters, and prints JSON', async () => {
    const ids = async (...args: string[]) => {
      const { stdout } = await conveyor('list', '--json', ...args)
      return (JSON.parse(stdout) as BuildJson[]).map(({ id }) => id)
    }
    expect(await ids('--branch', 'main')).toEqual([running.id, failed.id])
    expect(await ids('--state', 'succeeded', '--repository', 'ACME/app')).toEqual([succeeded.id])
    expect(await ids('--limit', '2')).toEqual([running.id, succeeded.id])
    expect(await ids('--text', 'aaaaa')).toEqual([failed.id])
    expect(await ids('--since', '2100-01-01')).toEqual([])
  })

  test('says so if there is none, and what is wrong with a filter', async () => {
    expect(await conveyor('list', '--repository', 'acme/none')).toMatchObject({
      code: 0,
      stdout: '',
      stderr: 'no builds found\n',
    })
    const { code, error } = await fails('list', '--since', 'yesterday')
    expect(code).toBe(2)
    expect(error).toMatch(/since/)
  })

  test('goes through as many pages as it takes', async () => {
    const many = await startTestServer()
    try {
      for (let at = 0; at < 230; at++) await many.begin(at.toString(16).padStart(40, '0'))
      const { stdout } = await runConveyor(['list', '--json', '--limit', '225'], {
        env: { CONVEYOR_URL: many.url },
      })
      const shas = (JSON.parse(stdout) as BuildJson[]).map((build) => Number.parseInt(build.sha, 16))
      expect(shas).toEqual(Array.from({ length: 225 }, (_, at) => 229 - at))
    } finally {
      await many[Symbol.asyncDispose]()
    }
  })
})

describe('conveyor logs', () => {
  test('prints the exact bytes of the log, by id, short id and commit', async () => {
    for (const target of [failed.id, failed.id.slice(0, 10), `acme/app@${failed.sha}`]) {
      const { code, stdout, stderr } = await conveyor('logs', target)
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
      expect(stdout).toBe(LOG.toString('utf8'))
    }
  })

  test('prints what a running build has logged, or follows it to its end', async () => {
    await server.writeLog(running, 'one\n')
    expect(await conveyor('logs', running.id)).toMatchObject({ code: 0, stdout: 'one\n' })
    await using following = await spawnConveyor(['logs', '-f', running.id], {
      env: { CONVEYOR_URL: server.url },
    })
    await expect.poll(following.stdout).toBe('one\n')
    await server.writeLog(running, 'two\n')
    await expect.poll(following.stdout).toBe('one\ntwo\n')
    await server.succeed(running)
    await server.endLog(running)
    expect(await following.exited).toEqual({ code: 0, signal: null })
    expect(following.stdout()).toBe('one\ntwo\n')
  })

  test('says what is no build', async () => {
    const { code, error } = await fails('logs', '00000000')
    expect(code).toBe(2)
    expect(error).toContain('build 00000000 not found')
    expect((await fails('logs', 'main')).error).toContain('"main" does not name a build')
    expect((await fails('logs', `acme/app@${sha('f')}`)).error).toContain('not found')
  })
})

describe('conveyor open', () => {
  test('prints the page of a build, of a repository, and of all builds', async () => {
    const page = async (...args: string[]) => (await conveyor('open', '--no-browser', ...args)).stdout
    expect(await page(failed.id.slice(0, 8))).toBe(`${server.url}/builds/${failed.id}\n`)
    expect(await page('acme/app')).toBe(`${server.url}/repositories/acme/app\n`)
    expect(await page()).toBe(`${server.url}/builds\n`)
    for (const path of [`/builds/${failed.id}`]) {
      const { status, headers } = await fetch(server.url + path, { headers: { accept: 'text/html' } })
      expect([path, status, headers.get('content-type')]).toEqual([path, 200, 'text/html; charset=utf-8'])
    }
  })

  test('opens the browser of the system, and says so if there is none', async () => {
    await using dir = await tempDir()
    await writeFile(`${dir.path}/xdg-open`, `#!/bin/sh\necho "$1" > "${dir.path}/opened"\n`, { mode: 0o755 })
    const env = { CONVEYOR_URL: server.url }
    const opened = await runConveyor(['open', failed.id], {
      env: { ...env, PATH: `${dir.path}:${process.env.PATH}:/usr/bin:/bin` },
    })
    expect(opened).toMatchObject({ code: 0, stderr: '' })
    expect(await readFile(`${dir.path}/opened`, 'utf8')).toBe(opened.stdout)
    const none = await runConveyor(['open', failed.id], {
      env: { ...env, PATH: process.execPath.replace(/\/[^/]*$/, '') },
    })
    expect(none).toMatchObject({ code: 0, stderr: 'no browser found; open the URL above\n' })
  })
})

describe('conveyor status', () => {
  test('shows what is known of a build', async () => {
    const { code, stdout } = await conveyor('status', succeeded.id.slice(0, 8))
    expect(code).toBe(0)
    const [build, state, ...rest] = stdout.split('\n')
    expect(build).toBe(`build       ${succeeded.id}`)
    expect(state).toMatch(/^state {7}succeeded, took \d/)
    expect(rest.filter((line) => !line.startsWith('requested'))).toEqual([
      `image       ${IMAGE}`,
      'repository  acme/app',
      'refs        branch feature/x',
      `commit      ${succeeded.sha}`,
      `page        ${server.url}/builds/${succeeded.id}`,
      '',
    ])
    expect((await conveyor('status', failed.id)).stdout).toMatch(/^error {7}RUN make failed$/m)
  })

  test('--json prints what the API answers', async () => {
    const { stdout } = await conveyor('status', '--json', failed.id)
    const answer = await fetch(`${server.url}/builds/${failed.id}`, {
      headers: { accept: 'application/json' },
    })
    expect(JSON.parse(stdout)).toEqual(await answer.json())
  })
})

describe('conveyor cancel and retry', () => {
  test('a waiting build is cancelled at once, a running one is stopped, and one that has ended stays as it is', async () => {
    const { build } = await server.store.accept({
      repository: 'acme/app',
      sha: sha('d'),
      ref: null,
      defaultBranch: null,
      cache: true,
      source: { kind: 'api' },
    })
    const name = `build ${build.id} (acme/app@ddddddd)`
    expect(await conveyor('cancel', build.id)).toEqual({
      code: 0,
      signal: null,
      stdout: '',
      stderr: `${name} is cancelled\n`,
    })
    expect((await server.store.get(build.id))?.state).toBe('cancelled')
    const again = await conveyor('cancel', `acme/app@${sha('d')}`)
    expect(again.code).toBe(2)
    expect(again.stderr).toContain('cancelled')

    const begun = await server.begin(sha('e'))
    expect(await conveyor('cancel', begun.id)).toMatchObject({
      code: 0,
      stderr: `build ${begun.id} (acme/app@eeeeeee) is being stopped\n`,
    })
    expect((await server.store.get(begun.id))?.cancel).not.toBe(null)
  })

  test('a retry is a new build, which is followed to its end', async () => {
    const detached = await conveyor('retry', failed.id, '--detach', '--no-cache')
    expect(detached).toMatchObject({ code: 0, stderr: '' })
    const retried = await server.store.get(detached.stdout.trim())
    expect(retried).toMatchObject({ sha: failed.sha, cache: false, state: 'pending' })
    await conveyor('cancel', detached.stdout.trim())

    await using following = await spawnConveyor(['retry', failed.id], { env: { CONVEYOR_URL: server.url } })
    await expect.poll(async () => (await server.store.newest('acme/app', failed.sha))?.state).toBe('pending')
    const next = await server.store.newest('acme/app', failed.sha)
    const claimed = await server.store.claim(next?.id ?? '')
    if (!claimed) throw new Error('the retry has ended')
    await server.writeLog(claimed, 'again\n')
    await server.succeed(claimed)
    await server.endLog(claimed)
    expect(await following.exited).toEqual({ code: 0, signal: null })
    expect(following.stdout()).toBe(`${IMAGE}\n`)
    expect(following.stderr()).toBe('again\n')
  })
})
