import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { type Gate, startGate } from '../support/gates.ts'
import type { Files, GitRepository } from '../support/git/repository.ts'
import { type ConveyorServer, freePort, runConveyor, spawnConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import { buildLog, complaints, startWorld, type World } from '../support/world.ts'

/** `conveyor build` as scripts and people use it: stdout, stderr, and exit codes. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\n'

let world: World
let server: ConveyorServer
/** Fixed, because a restarted server must have the same address. */
let port: number
beforeAll(async () => {
  port = await freePort()
  world = await startWorld({ env: { BUILD_NETWORK: 'host', PORT: String(port), RETRY_DELAYS: '0s' } })
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

/** A new repository with one commit that no other repository has. */
async function commit(repository: string, step = ''): Promise<{ sha: string; git: GitRepository }> {
  const git = await world.git.create(repository)
  const files: Files = { Dockerfile: `${DOCKERFILE}${step}`, repository }
  return { git, sha: await git.commit(files) }
}

/** Runs `conveyor build` against the server, with only this environment. */
async function build(args: string[], env: NodeJS.ProcessEnv = {}) {
  const ended = await runConveyor(['build', ...args], { env: { CONVEYOR_URL: server.url, ...env } })
  expect(complaints(ended.stderr)).toEqual([])
  return ended
}

const imageOf = async (repository: string, sha: string) =>
  `${world.registry.host}/${repository}@${await world.digest(repository, sha)}`

describe('conveyor build', () => {
  test('prints the image alone on stdout, and the log on stderr', async () => {
    const { sha } = await commit('acme/cli')
    const first = await build([`acme/cli:${sha}`])
    const image = await imageOf('acme/cli', sha)
    expect(first).toMatchObject({ code: 0, stdout: `${image}\n` })
    const { id } = (await (await fetch(`${server.url}/builds/acme/cli@${sha}`)).json()) as BuildJson
    expect(first.stderr).toBe(await buildLog(server, id))

    const again = await build([`acme/cli@${sha}`])
    expect(again).toMatchObject({ code: 0, stdout: `${image}\n`, stderr: '' })
  })

  test('--json prints the build', async () => {
    const { sha } = await commit('acme/cli-json')
    const { code, stdout, stderr } = await build([`acme/cli-json:${sha}`, '--json'])
    expect(code).toBe(0)
    const image = await imageOf('acme/cli-json', sha)
    expect(JSON.parse(stdout)).toMatchObject({ repository: 'acme/cli-json', sha, state: 'succeeded', image })
    expect(stderr).toContain(`image ${image}\n`)
  })

  test('a branch is looked up on GitHub, and --no-cache rebuilds', async () => {
    const { sha } = await commit('acme/cli-branch', 'RUN date +%N > /now\n')
    world.github.setHead('acme/cli-branch', 'feature/x', sha)
    const { code, stdout } = await build(['acme/cli-branch:feature/x'])
    expect(code).toBe(0)
    expect(await world.digest('acme/cli-branch', 'feature-x')).toBe(stdout.trim().split('@')[1])

    const anew = await build(['acme/cli-branch:feature/x', '--no-cache'])
    expect(anew.code).toBe(0)
    expect(anew.stdout).not.toBe(stdout)
    expect(anew.stderr).toContain(', no cache')
  })

  test('a git tag is looked up in the repository; image tags move only by a push', async () => {
    const { sha, git } = await commit('acme/cli-tag')
    world.github.setHead('acme/cli-tag', 'main', 'a'.repeat(40))
    const who = ['-c', 'user.name=A', '-c', 'user.email=a@example.com']
    await git.git(...who, 'tag', '-a', '-m', 'first', 'v1.0', sha)
    const { code, stdout, stderr } = await build(['acme/cli-tag:v1.0'])
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${await imageOf('acme/cli-tag', sha)}\n` })
    expect(stderr).toContain('tag v1.0 is not moved: no push announced the git tag v1.0\n')
    expect(await world.digest('acme/cli-tag', 'v1.0')).toBeNull()
    // Once it has been pushed, it is built as that push.
    await world.push(server, { repository: 'acme/cli-tag', sha, tag: 'v1.0' })
    const again = await build(['acme/cli-tag:v1.0', '--no-cache'])
    expect(await world.digest('acme/cli-tag', 'v1.0')).toBe(again.stdout.trim().split('@')[1])
  })

  test('a short sha is explained', async () => {
    const { sha } = await commit('acme/cli-short')
    world.github.setHead('acme/cli-short', 'main', sha)
    const short = sha.slice(0, 7)
    const { code, stderr } = await build([`acme/cli-short:${short}`])
    expect(code).toBe(2)
    expect(unwrapped(stderr)).toBe(
      `Error: acme/cli-short has no branch or git tag "${short}". Give the full commit id, as \`git rev-parse ${short}\` prints it`,
    )
    expect(unwrapped((await build([`acme/cli-short@${short}`])).stderr)).toContain('is not a full commit id')
  })

  test('--detach prints the id at once; a later request joins, and shows the whole log', async () => {
    await using gate = await startGate()
    const { sha } = await commit('acme/cli-join', `RUN ${gate.command()}\n`)
    const detached = await build([`acme/cli-join:${sha}`, '--detach'])
    expect(detached).toMatchObject({ code: 0, stderr: '' })
    const id = detached.stdout.trim()
    await gate.arrival()
    const joining = await spawnConveyor(['build', `acme/cli-join:${sha}`], {
      env: { CONVEYOR_URL: server.url },
    })
    await joining.waitFor(/RUN wget/)
    gate.open()
    expect(await joining.exited).toMatchObject({ code: 0 })
    expect(joining.stdout()).toBe(`${await imageOf('acme/cli-join', sha)}\n`)
    expect(joining.stderr()).toBe(await buildLog(server, id))
  })

  test('a failed build is exit code 1, with the reason last', async () => {
    const { sha } = await commit('acme/cli-fails', 'RUN exit 9\n')
    const { code, stdout, stderr } = await build([`acme/cli-fails:${sha}`])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/\n › {3}Error: \[3\/3\] RUN exit 9 failed with exit code 9\n$/)
  })

  test('Ctrl-C stops waiting, and the build continues', async () => {
    await using gate = await startGate()
    const { sha } = await commit('acme/cli-leaves', `RUN ${gate.command()}\n`)
    await using waiting = await spawnConveyor(['build', `acme/cli-leaves:${sha}`], {
      env: { CONVEYOR_URL: server.url },
    })
    await gate.arrival()
    await waiting.waitFor(/RUN wget/)
    expect(await waiting.kill('SIGINT')).toEqual({ code: 130, signal: null })
    const { id } = (await (await fetch(`${server.url}/builds/acme/cli-leaves@${sha}`)).json()) as BuildJson
    expect(
      waiting
        .stderr()
        .endsWith(
          `Error: stopped following the build; it continues on the server. Follow it with \`conveyor logs -f ${id}\`, or cancel it with \`conveyor cancel ${id}\`\n`,
        ),
    ).toBe(true)
    gate.open()
    expect((await build([`acme/cli-leaves:${sha}`])).code).toBe(0)
  })

  test('reconnects to a restarted server, and prints each byte of the log once', async () => {
    await using gate = await startGate()
    const { sha } = await commit('acme/cli-restart', `RUN ${gate.command()}\n`)
    await using following = await spawnConveyor(['build', `acme/cli-restart:${sha}`], {
      env: { CONVEYOR_URL: server.url },
    })
    await gate.arrival()
    await following.waitFor(/RUN wget/)
    await server.kill('SIGKILL')
    await following.waitFor(/conveyor: lost the connection to http:\/\/127\.0\.0\.1:\d+ .*; reconnecting/)
    gate.open()
    server = await world.startServer()
    expect(await following.exited).toMatchObject({ code: 0 })
    expect(following.stdout()).toBe(`${await imageOf('acme/cli-restart', sha)}\n`)
    const { id } = (await (await fetch(`${server.url}/builds/acme/cli-restart@${sha}`)).json()) as BuildJson
    expect(following.stderr().replace(/conveyor: .*\n/g, '')).toBe(await buildLog(server, id))
  })
})

describe('invalid input is exit code 2', () => {
  test.each([
    ['acme', '"acme" is not a valid build target. Use OWNER/NAME:SHA, OWNER/NAME:BRANCH, or OWNER/NAME@SHA'],
    ['acme/web@abc', 'sha "abc" is not a full commit id. Give all 40 hexadecimal digits'],
    [
      'acme/cli:nope',
      'acme/cli has no branch "nope". Check the name of the branch; the default branch is "main"',
    ],
    ['acme/gone:main', 'cannot look up the branch "main" of acme/gone: GitHub answered 404 (Not Found)'],
  ])('%s', async (target, message) => {
    world.github.setHead('acme/cli', 'main', 'a'.repeat(40))
    const { code, stdout, stderr } = await build([target])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(unwrapped(stderr)).toContain(`Error: ${message}`)
  })

  test('an unknown repository or sha', async () => {
    const unknown = await build([`acme/nowhere:${'a'.repeat(40)}`])
    expect(unknown).toMatchObject({ code: 2, stdout: '' })
    expect(unknown.stderr).toMatch(
      / › {3}Error: 127\.0\.0\.1:\d+ has no repository acme\/nowhere\. Check the name/,
    )
  })

  test('wrong credentials, which are not shown', async () => {
    await using own = await startWorld({ env: { BASIC_AUTH: 'ci:correct-horse' } })
    await using closed = await own.startServer()
    const target = `acme/web:${'a'.repeat(40)}`
    for (const [problem, ...auth] of [
      ['A user name and password, or a token, are required'],
      ['The user name or password is wrong', '--auth', 'ci:wrong-horse'],
    ]) {
      const { code, stderr } = await build([target, '--url', closed.url, ...auth])
      expect(code).toBe(2)
      // A warning about a flag with a secret comes first.
      expect(unwrapped(stderr).replace(/^warning: .* CONVEYOR_AUTH_FILE /, '')).toBe(
        `Error: ${problem}. Check the login or token (--auth, CONVEYOR_AUTH, or CONVEYOR_TOKEN)`,
      )
    }
    const { code, stderr } = await build([target, '--auth', 'wrong-horse'])
    expect(code).toBe(2)
    expect(stderr).not.toContain('wrong-horse')
  })

  test('a login in .env is sent only to the server of these settings', async () => {
    await using folder = await tempDir()
    const settings = (text: string) => writeFile(join(folder.path, '.env'), text)
    const asked: (string | undefined)[] = []
    const server = createServer((request, response) => {
      asked.push(request.headers.authorization)
      response.writeHead(401, { 'content-type': 'application/json' })
      response.end('{"id": "unauthorized", "message": "no"}')
    }).listen(0, '0.0.0.0')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const elsewhere = Object.values(networkInterfaces())
      .flat()
      .find((one) => one?.family === 'IPv4' && !one.internal)
    const other = `http://${elsewhere?.address}:${port}`
    /** Who the command says it is logged in as. */
    const login = async (url: string, env: NodeJS.ProcessEnv = {}, args: string[] = []) => {
      const target = `acme/web:${'a'.repeat(40)}`
      const { code } = await runConveyor(['build', target, '--url', url, ...args], { env, cwd: folder.path })
      expect(code).toBe(2)
      const header = asked.pop()
      return header && Buffer.from(header.replace('Basic ', ''), 'base64').toString()
    }
    const local = `http://localhost:${port}`

    expect(await login(local)).toBeUndefined()
    await settings('# settings\nGITHUB_SECRET=x\nBASIC_AUTH=conveyor:from-file\n')
    expect(await login(local)).toBe('conveyor:from-file')
    expect(await login(other)).toBeUndefined()
    expect(await login(local, { BASIC_AUTH: 'ci:basic' })).toBe('ci:basic')
    expect(await login(local, { BASIC_AUTH: 'ci:basic', CONVEYOR_AUTH: 'ci:own' })).toBe('ci:own')
    expect(await login(local, { CONVEYOR_AUTH: 'ci:own' }, ['--auth', 'ci:flag'])).toBe('ci:flag')
    expect(await login(local, {}, ['--auth', 'none'])).toBeUndefined()
    expect(await login(local.replace('//', '//ci:in-url@'))).toBe('ci:in-url')

    await settings(`BASE_URL=${other}\nBASIC_AUTH='conveyor:from-file'\n`)
    expect(await login(other)).toBe('conveyor:from-file')
    server.close()
    server.closeAllConnections()
  })

  test('a key that POST /builds does not know', async () => {
    const body = JSON.stringify({ repo: 'acme/web', sha: 'a'.repeat(40) })
    const answer = await fetch(`${server.url}/builds`, { method: 'POST', body })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({
      id: 'invalid',
      message: 'unknown key "repo"',
      hint: expect.stringContaining('`repository`'),
    })
  })
})

test('no server is exit code 3', async () => {
  const { code, stdout, stderr } = await build([`acme/web:${'a'.repeat(40)}`, '--url', 'http://127.0.0.1:1'])
  expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
  expect(unwrapped(stderr)).toBe(
    'Error: cannot connect to the Conveyor server at http://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1. Check the server URL (--url or CONVEYOR_URL), and that `conveyor server` is running there',
  )
})

describe('--local', () => {
  const local = (args: string[], env: NodeJS.ProcessEnv = {}) =>
    spawnConveyor(['build', ...args, '--local'], { env: { ...world.env, ...env } })

  test('builds without a server, and sets no status', async () => {
    const { sha } = await commit('acme/local')
    const running = await local([`acme/local:${sha}`])
    expect(await running.exited).toMatchObject({ code: 0 })
    expect(running.stdout()).toBe(`${await imageOf('acme/local', sha)}\n`)
    expect(running.stderr()).toMatch(/\nimage \S+\n$/)
    expect(complaints(running.stderr())).toEqual([])
    expect(world.github.statuses.filter((status) => status.sha === sha)).toEqual([])
  })

  test('a failed build is exit code 1, a missing engine 3', async () => {
    const { sha } = await commit('acme/local-fails', 'RUN exit 9\n')
    const failing = await local([`acme/local-fails:${sha}`])
    expect(await failing.exited).toMatchObject({ code: 1 })
    expect(failing.stderr()).toMatch(/ › {3}Error: \[3\/3\] RUN exit 9 failed with exit code 9\n$/)
    const lost = await local([`acme/local-fails:${sha}`], { DOCKER_HOST: 'unix:///nonexistent/docker.sock' })
    expect(await lost.exited).toMatchObject({ code: 3 })
    expect(lost.stderr()).toMatch(
      / › {3}Error: cannot reach the Docker engine: .* DOCKER_HOST to one that is running\n$/,
    )
    for (const { stdout, stderr } of [failing, lost]) {
      expect(stdout()).toBe('')
      expect(complaints(stderr())).toEqual([])
    }
  })

  test('Ctrl-C ends the step in the engine, and the same command continues', async () => {
    await using gate: Gate = await startGate()
    const { sha } = await commit('acme/local-stop', `RUN ${gate.command()}\n`)
    const stopped = await local([`acme/local-stop:${sha}`])
    const step = await gate.arrival()
    expect(await stopped.kill('SIGINT')).toEqual({ code: 130, signal: null })
    await step.gone
    expect(unwrapped(stopped.stderr())).toMatch(
      /Error: the build was cancelled\. Run the same command again to continue$/,
    )
    expect(complaints(stopped.stderr())).toEqual([])

    gate.open()
    const again = await local([`acme/local-stop:${sha}`])
    expect(await again.exited).toMatchObject({ code: 0 })
    expect(again.stdout()).toBe(`${await imageOf('acme/local-stop', sha)}\n`)
  })
})

/** oclif wraps long errors and starts each line with a mark. */
function unwrapped(stderr: string): string {
  return stderr.replace(/\s*›\s+/g, ' ').trim()
}
