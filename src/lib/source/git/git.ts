import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { ConveyorError } from '../../core/errors.ts'

/** What git said when it failed. For our own use; people see what git-errors.ts makes of it. */
export class GitFailure extends Error {
  override readonly name = 'GitFailure'
  /** The end of git's stderr, without progress lines and secrets. */
  readonly stderr: string
  /** Whether the server had answered with a redirect before, and git then went where it led. */
  redirected = false

  constructor(command: string, why: string, stderr: string) {
    super(`git ${command} ${why}${stderr ? `: ${stderr}` : ''}`)
    this.stderr = stderr
  }
}

export interface GitOptions {
  /** Bare repository. */
  gitDir?: string
  cwd?: string
  /** Settings for this command, passed through the environment: nobody sees them in `ps`. */
  config?: readonly (readonly [key: string, value: string])[]
  env?: Record<string, string>
  input?: string | Uint8Array
  signal?: AbortSignal | undefined
  /** Ends the command when its stderr is silent for so long. */
  silenceMs?: number
  /** Open file that the command and its children keep open, for a lock on it to outlive us. */
  holdFd?: number
  /** Texts that must not appear in what we keep of stderr. */
  secrets?: readonly string[]
  /** Told every line of stderr, progress too. */
  onStderr?: (line: string) => void
}

/** A git command that runs. */
export interface GitProcess {
  stdin: Writable
  stdout: Readable
  /** Ends it and all its children; `ended` tells when that is done. */
  stop(): void
  /** Resolves when git ended well. Rejects with GitFailure, or with the signal's reason. */
  ended: Promise<void>
}

/** The variables that git or ssh need from ours. Everything else, secrets above all, stays behind. */
const PASSED_ON =
  /^(PATH|TMPDIR|SSH_AUTH_SOCK|SSL_CERT_(FILE|DIR)|GIT_SSL_(CAINFO|CAPATH)|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY)$/

const ALWAYS_CONFIGURED: [string, string][] = [
  ['core.hooksPath', '/dev/null'],
  ['core.attributesFile', '/dev/null'],
  ['core.safecrlf', 'false'],
  // Larger blobs are streamed by git; smaller ones it holds in memory.
  ['core.bigFileThreshold', '32m'],
  ['credential.helper', ''],
  ['gc.auto', '0'], // Ours to decide: see Mirror.maintain.
  ['init.defaultRefFormat', 'files'],
]

const STDERR_KEPT = 16 * 1024
const KILL_AFTER_MS = 3_000
const STDOUT_LIMIT = 64 * 1024 * 1024

/** Runs git so that only our own settings count: not the machine's, the person's or a template's. */
export class Git {
  readonly #environment: Record<string, string>

  /**
   * @param environment what to take PATH, proxies and the like from.
   * @param home a folder without settings: keeps git and curl away from ~/.gitconfig and ~/.netrc.
   */
  constructor(environment: Record<string, string | undefined>, home: string) {
    const passed = Object.entries(environment).filter(([name, value]) => value && PASSED_ON.test(name))
    this.#environment = {
      PATH: '/usr/local/bin:/usr/bin:/bin',
      ...(Object.fromEntries(passed) as Record<string, string>),
      HOME: home,
      LC_ALL: 'C',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_ATTR_NOSYSTEM: '1',
      GIT_TERMINAL_PROMPT: '0',
    }
  }

  /** Runs git to its end; resolves to its stdout, which must be small. */
  async run(args: readonly string[], options: GitOptions = {}): Promise<Buffer> {
    const git = this.start(args, options)
    const chunks: Buffer[] = []
    let size = 0
    git.stdout.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (size > STDOUT_LIMIT) git.stop()
    })
    // git may end without reading all of it, and says why in its own words.
    git.stdin.on('error', () => {})
    git.stdin.end(options.input)
    await git.ended
    return Buffer.concat(chunks)
  }

  /** Starts git; the caller reads `stdout`, ends `stdin`, and awaits `ended`. */
  start(args: readonly string[], options: GitOptions = {}): GitProcess {
    options.signal?.throwIfAborted()
    const child = this.spawn('git', args, options)
    const command = args[0] ?? ''
    const stderr = keepStderr(child.stderr, options)
    const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
    ended.catch(() => {}) // A reader that stopped early may never look at it.

    let failure: unknown
    let killTimer: NodeJS.Timeout | undefined
    const stop = (why: unknown = new GitFailure(command, 'was stopped', '')) => {
      if (child.exitCode !== null || child.signalCode !== null || failure) return
      failure = why
      signalGroup(child.pid, 'SIGTERM')
      killTimer = setTimeout(() => signalGroup(child.pid, 'SIGKILL'), KILL_AFTER_MS)
      // Not read to the end by anybody now, and `close` waits for that.
      child.stdout.destroy()
    }
    const onAbort = () => stop(options.signal?.reason)
    options.signal?.addEventListener('abort', onAbort)
    const silence = watchSilence(child.stderr, options.silenceMs, (seconds) =>
      stop(new GitFailure(command, 'was stopped', `timed out: no sign of life for ${seconds} s`)),
    )
    child.once('error', (error: NodeJS.ErrnoException) => {
      failure ??= error.code === 'ENOENT' ? noGit(error) : error
    })
    child.once('close', (code, signal) => {
      clearTimeout(killTimer)
      silence.end()
      options.signal?.removeEventListener('abort', onAbort)
      if (failure) reject(failure)
      else if (code === 0) resolve()
      else reject(new GitFailure(command, `ended with ${signal ?? `status ${code}`}`, stderr()))
    })
    return { stdin: child.stdin, stdout: child.stdout, ended, stop: () => stop() }
  }

  /** Starts a program in git's environment, as a process group of its own so that it dies as a whole. */
  spawn(
    program: string,
    args: readonly string[],
    options: GitOptions = {},
  ): ChildProcessByStdio<Writable, Readable, Readable> {
    const config = [...ALWAYS_CONFIGURED, ...(options.config ?? [])]
    const pairs = config.flatMap(([key, value], i) => [
      [`GIT_CONFIG_KEY_${i}`, key],
      [`GIT_CONFIG_VALUE_${i}`, value],
    ])
    return spawn(program, args, {
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', ...(options.holdFd === undefined ? [] : [options.holdFd])],
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      env: {
        ...this.#environment,
        ...(options.gitDir !== undefined && { GIT_DIR: options.gitDir }),
        GIT_CONFIG_COUNT: String(config.length),
        ...Object.fromEntries(pairs),
        ...options.env,
      },
    }) as ChildProcessByStdio<Writable, Readable, Readable>
  }
}

function noGit(cause: Error): ConveyorError {
  return new ConveyorError('unavailable', 'git is not installed on this machine', {
    hint: 'Install git 2.39 or newer, and see that it is on the PATH',
    cause,
  })
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // ESRCH: all of it ended already.
  }
}

/**
 * Collects the end of stderr, without progress lines: those that end in a carriage return alone. Lines of ssh end
 * in one and a line feed.
 */
function keepStderr(stream: Readable, { secrets = [], onStderr }: GitOptions): () => string {
  let kept = ''
  let line = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    // A carriage return at the end may be the first half of a line's end.
    const pieces = (line + text).split(/(?<=\n|\r(?!\n|$))/)
    line = pieces.at(-1)?.endsWith('\n') ? '' : (pieces.pop() ?? '').slice(-STDERR_KEPT)
    for (const piece of pieces) {
      onStderr?.(redact(piece.trimEnd(), secrets))
      if (!piece.endsWith('\r')) kept = (kept + piece.replace(/\r\n$/, '\n')).slice(-STDERR_KEPT)
    }
  })
  return () => redact(line.endsWith('\r') ? kept : kept + line, secrets).trim()
}

function redact(text: string, secrets: readonly string[]): string {
  return secrets.reduce((result, secret) => result.replaceAll(secret, '[redacted]'), text)
}

function watchSilence(stream: Readable, ms: number | undefined, onSilence: (seconds: number) => void) {
  if (ms === undefined) return { end() {} }
  const timer = setTimeout(() => onSilence(ms / 1000), ms)
  stream.on('data', () => timer.refresh())
  return { end: () => clearTimeout(timer) }
}
