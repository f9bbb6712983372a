import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startGate } from '../support/gates.ts'
import { basicEnv, type ConveyorServer, projectRoot, start } from '../support/processes.ts'
import { buildLog, startWorld, type World } from '../support/world.ts'

/** The commands with their output going somewhere other than a terminal, in a real shell. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\n'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ env: { BUILD_NETWORK: 'host' } })
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

/** A new repository with one commit that no other repository has. */
async function commit(repository: string, step = ''): Promise<string> {
  const git = await world.git.create(repository)
  return git.commit({ Dockerfile: `${DOCKERFILE}${step}`, repository })
}

/** Runs a line of bash in which `conveyor` is the command; resolves to its output. */
async function bash(line: string, env: NodeJS.ProcessEnv = {}) {
  const conveyor = `conveyor() { exec "${process.execPath}" "${projectRoot}bin/run.js" "$@"; }; `
  await using shell = await start('bash', ['-c', conveyor + line], {
    env: { ...basicEnv(), CONVEYOR_URL: server.url, ...env },
  })
  const { code } = await shell.exited
  expect(`${shell.stdout()}${shell.stderr()}`).not.toMatch(/Warning|top-level await|^\s+at /m)
  return { code, stdout: shell.stdout(), stderr: shell.stderr() }
}

describe('a reader that closes the pipe', () => {
  test('ends the command at once, as SIGPIPE would, while the build goes on', async () => {
    await using gate = await startGate()
    // A closed pipe is noticed on the next write.
    const step = `(while sleep 1; do echo waiting; done) & ${gate.command()}; kill $!`
    const sha = await commit('acme/pipe', `RUN ${step}\n`)
    const { stdout } = await bash(
      `( conveyor build acme/pipe:${sha} ) 2>&1 | head -1; echo "status \${PIPESTATUS[0]}"`,
    )
    expect(stdout).toBe(`building acme/pipe@${sha}\nstatus 141\n`)
    gate.open()
    const { id } = (await (await fetch(`${server.url}/builds/acme/pipe@${sha}`)).json()) as { id: string }
    expect(await buildLog(server, id)).toMatch(/\nimage \S+\n$/)
  })

  test('of the log only: the image is still printed on stdout', async () => {
    const sha = await commit('acme/pipe-log')
    const { code, stdout } = await bash(`conveyor build acme/pipe-log:${sha} 2> >(head -1 >&2)`)
    const digest = await world.digest('acme/pipe-log', sha)
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${world.registry.host}/acme/pipe-log@${digest}\n` })
  })

  test('does not end a build in the same process', async () => {
    const sha = await commit('acme/pipe-local')
    world.github.setHead('acme/pipe-local', 'main', sha)
    const line = `( conveyor build acme/pipe-local:${sha} --local ) 2>&1 | head -1; echo "status \${PIPESTATUS[0]}"`
    const { stdout } = await bash(line, world.env)
    expect(stdout).toBe(`building acme/pipe-local@${sha}\nstatus 141\n`)
    expect(await world.digest('acme/pipe-local', sha)).toMatch(/^sha256:/)
  })

  test.each(['--help', '--version', 'build --help', 'doctor --json'])(
    'of `%s` is not an error',
    async (args) => {
      const { stdout } = await bash(
        `( conveyor ${args} ) | (exec <&-; sleep 0.1); echo "status \${PIPESTATUS[0]}"`,
      )
      expect(stdout).toMatch(/status (0|141)\n$/)
    },
  )

  test('does not end a server', async () => {
    const own = await world.startServer({ env: { DATA_DIR: `${world.dataDir}/own` } })
    own.child.stdout?.destroy()
    own.child.stderr?.destroy()
    const sha = await commit('acme/pipe-server')
    const { stdout } = await bash(`conveyor build acme/pipe-server:${sha}`, { CONVEYOR_URL: own.url })
    expect(stdout).toContain('/acme/pipe-server@sha256:')
    expect(await own.kill()).toEqual({ code: 0, signal: null })
  })
})

describe('a full disk', () => {
  test.each(['--help', '--version', 'doctor', 'bootstrap --help'])('`%s` says so', async (args) => {
    expect(await bash(`conveyor ${args} > /dev/full`)).toMatchObject({
      code: 3,
      stderr: ' ›   Error: cannot write to standard output: ENOSPC: no space left on device, write\n',
    })
  })

  test.each(['', '--json', '--detach', '--local'])('`build %s` says so', async (flag) => {
    const repository = `acme/full${flag}`
    const sha = await commit(repository)
    const { code, stderr } = await bash(`conveyor build ${repository}:${sha} ${flag} > /dev/full`, world.env)
    expect(code).toBe(3)
    expect(stderr).toMatch(/ › {3}Error: cannot write to standard output: ENOSPC: [^\n]+\n$/)
  })
})

describe('an error', () => {
  test('is one line for programs, however long', async () => {
    const message =
      'cannot connect to the Conveyor server at http://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1. Check the server URL (--url or CONVEYOR_URL), and that `conveyor server` is running there'
    expect(await bash('conveyor build a/b:c --url http://127.0.0.1:1')).toEqual({
      code: 3,
      stdout: '',
      stderr: ` ›   Error: ${message}\n`,
    })
  })

  test('in the arguments, too, with exit code 2', async () => {
    const { code, stderr } = await bash(`conveyor build a/b:c --no-such-flag-${'x'.repeat(100)}`)
    expect(code).toBe(2)
    expect(stderr).toMatch(/^ › {3}Error: Nonexistent flag: --no-such-flag-x{100}\n/)
  })

  test('of several lines has the marker before each', async () => {
    const { code, stderr } = await bash('conveyor server --port x --workers y')
    expect(code).toBe(2)
    expect(stderr).toMatch(/^ › {3}Error: the configuration has 2 problems:\n( › {5}\S[^\n]*\n){2}$/)
  })
})
