import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { PATIENCE_MS } from './timing/patience.ts'

/** The folder of package.json, with a trailing slash. */
export const projectRoot = fileURLToPath(new URL('../../', import.meta.url))

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface StartOptions {
  /** The whole environment of the process: nothing else is inherited. */
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** Default: no input, and both outputs collected. */
  stdio?: StdioOptions
  /** Starts a new process group, so that Ctrl-C in the terminal does not reach it. */
  detached?: boolean
}

/** A running process, which must be stopped. */
export interface Running extends AsyncDisposable {
  readonly pid: number
  readonly child: ChildProcess
  /** Resolves when the process has exited and all its output was read. Never rejects. */
  readonly exited: Promise<Exit>
  /** Its output so far. */
  stdout(): string
  stderr(): string
  /** The first match in either output; rejects if the process exits or `timeoutMs` passes first. */
  waitFor(pattern: RegExp, timeoutMs?: number): Promise<RegExpMatchArray>
  /** Sends the signal and waits for the exit; SIGKILL after `graceMs`. Does nothing if it has already exited. */
  kill(signal?: NodeJS.Signals, graceMs?: number): Promise<Exit>
}

const running = new Set<Running>()
/** Responses of the servers that this file started which /openapi.json does not describe. */
const violations: string[] = []

// A test file fails if it leaves a process running, or if a server responded other than it says.
if (process.env.VITEST_POOL_ID) {
  const { afterAll } = await import('vitest')
  afterAll(async () => {
    const leaked = [...running]
    await Promise.all(leaked.map((one) => one.kill('SIGKILL')))
    if (leaked.length > 0) {
      const names = leaked.map((one) => `${one.child.spawnargs.join(' ')} (pid ${one.pid})`)
      throw new Error(`still running at the end of the file: ${names.join('; ')}`)
    }
    if (violations.length > 0) throw new Error(`not as described:\n${[...new Set(violations)].join('\n')}`)
  })
}

/** Starts a program. Rejects if it cannot be started. */
export async function start(command: string, args: string[], options: StartOptions = {}): Promise<Running> {
  const { env = basicEnv(), stdio = ['ignore', 'pipe', 'pipe'], ...rest } = options
  const child = spawn(command, args, { env, stdio, ...rest })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  const exited = new Promise<Exit>((resolve) => {
    child.once('exit', (code, signal) => {
      // A grandchild may keep the pipes open; the output of the process itself has arrived by now.
      const timer = setTimeout(() => {
        child.stdout?.destroy()
        child.stderr?.destroy()
      }, 2_000)
      child.once('close', () => {
        clearTimeout(timer)
        resolve({ code, signal })
      })
    })
  })
  await once(child, 'spawn')
  if (child.pid === undefined) throw new Error(`${command} was started without a process id`)

  const one: Running = {
    pid: child.pid,
    child,
    exited,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    waitFor: (pattern, timeoutMs = PATIENCE_MS) => waitForOutput(one, pattern, timeoutMs),
    async kill(signal = 'SIGTERM', graceMs = 60_000) {
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
      const exit = await exited
      clearTimeout(timer)
      return exit
    },
    async [Symbol.asyncDispose]() {
      await one.kill()
    },
  }
  running.add(one)
  void exited.then(() => running.delete(one))
  return one
}

async function waitForOutput(one: Running, pattern: RegExp, timeoutMs: number): Promise<RegExpMatchArray> {
  let ended = false
  void one.exited.then(() => {
    ended = true
  })
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const last = ended || performance.now() > deadline
    const match = one.stdout().match(pattern) ?? one.stderr().match(pattern)
    if (match) return match
    if (last) {
      const why = ended ? 'ended' : `ran for ${timeoutMs} ms`
      const tail = lastLines(`${one.stdout()}${one.stderr()}`)
      throw new Error(`${one.child.spawnfile} ${why} without printing ${pattern}. Its last lines:\n${tail}`)
    }
    await delay(20)
  }
}

/** The last lines of a log, for error messages. */
export function lastLines(text: string, count = 20): string {
  return text.trimEnd().split('\n').slice(-count).join('\n')
}

/** Only what every program needs: no tokens, no DOCKER_HOST. */
export function basicEnv(): NodeJS.ProcessEnv {
  const { PATH, HOME, TMPDIR, NODE_COMPILE_CACHE } = process.env
  return {
    ...(PATH && { PATH }),
    ...(HOME && { HOME }),
    ...(TMPDIR && { TMPDIR }),
    ...(NODE_COMPILE_CACHE && { NODE_COMPILE_CACHE }),
    // Engines, registries, and clients collect their garbage less often, which saves a part of their CPU time.
    GOGC: '400',
  }
}

export interface ConveyorOptions {
  /** Added to PATH, HOME and TMPDIR; nothing else is inherited. */
  env?: NodeJS.ProcessEnv
  cwd?: string
}

export interface ConveyorServer extends Running {
  /** Where it listens, `http://127.0.0.1:PORT`. */
  readonly url: string
}

/**
 * Starts a `conveyor` command that keeps running, and waits until it prints its address.
 * @param args the command and its flags, `['server', '--port', '0']`
 * @param options `ready`: matches that line; its first group (or the whole match) becomes `url`
 */
export async function startConveyor(
  args: string[],
  options: ConveyorOptions & { ready?: RegExp } = {},
): Promise<ConveyorServer> {
  const { ready = /https?:\/\/127\.0\.0\.1:\d+/ } = options
  const server = await spawnConveyor(args, options)
  try {
    const match = await server.waitFor(ready)
    return Object.assign(server, { url: match[1] ?? match[0] })
  } catch (error) {
    await server.kill('SIGKILL')
    throw error
  }
}

/** Runs a `conveyor` command until it exits. */
export async function runConveyor(
  args: string[],
  options: ConveyorOptions = {},
): Promise<Exit & { stdout: string; stderr: string }> {
  const command = await spawnConveyor(args, options)
  const exit = await command.exited
  return { ...exit, stdout: command.stdout(), stderr: command.stderr() }
}

/** Starts a `conveyor` command; the caller waits for its exit, or stops it. What a server responds is checked. */
export async function spawnConveyor(args: string[], { env, cwd }: ConveyorOptions = {}): Promise<Running> {
  // Through its shebang, as users start it, but with the Node that runs the tests.
  const base = basicEnv()
  const path = `${dirname(process.execPath)}:${base.PATH ?? ''}`
  const isServer = args[0] === 'server'
  const command = await start(`${projectRoot}bin/run.js`, args, {
    // Plain lines, which tests match; see test/app/process-log.test.ts for the others.
    env: {
      ...base,
      PATH: path,
      LOG_FORMAT: 'text',
      ...(isServer && { NODE_OPTIONS: `--import=${projectRoot}test/support/openapi/record-answers.ts` }),
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe', ...(isServer ? (['pipe'] as const) : [])],
    ...(cwd !== undefined && { cwd }),
  })
  if (isServer) {
    // Most tests start none, and need no JSON schemas.
    const { checkAnswers } = await import('./openapi/started-servers.ts')
    checkAnswers(command.child, violations)
  }
  return command
}

/** Whether a process with this id is running (a zombie is not). Linux only. */
export async function isRunning(pid: number): Promise<boolean> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    return stat.charAt(stat.lastIndexOf(')') + 2) !== 'Z'
  } catch {
    return false
  }
}

/** Kills a process, unless it has ended in the meantime, and waits until it is gone. Linux only. */
export async function killProcess(pid: number): Promise<void> {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
  while (await isRunning(pid)) await delay(20)
}

/** How many processes on this machine, those in containers included, run exactly this command. Linux only. */
export async function runningCount(command: string): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(
    pids.map(async (pid) => (await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')).split('\0')),
  )
  return lines.filter((line) => line.join(' ').trim() === command).length
}

/**
 * A free port, below the ephemeral range, so that a server that is stopped for a while finds it free again.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000)
    const server = createServer()
    const free = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false))
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
    })
    if (free) return port
  }
}
