import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { ConveyorError } from '../../core/errors.ts'

/** A failed git command. For internal use; errors.ts turns it into an error for people. */
export class GitFailure extends Error {
  override readonly name = 'GitFailure'
  /** The end of git's stderr, without progress lines and secrets. */
  readonly stderr: string
  /** Whether git had followed a redirect of the server. */
  redirected = false

  constructor(command: string, why: string, stderr: string) {
    super(`git ${command} ${why}${stderr ? `: ${stderr}` : ''}`)
    this.stderr = stderr
  }
}

export interface GitOptions {
  /** Runs another program in git's environment. */
  program?: string
  /** Bare repository. */
  gitDir?: string
  cwd?: string
  /** Settings for this command, passed through the environment to hide them from `ps`. */
  config?: readonly (readonly [key: string, value: string])[]
  env?: Record<string, string>
  input?: string | Uint8Array
  signal?: AbortSignal | undefined
  /** Stops the command when it has written nothing to stderr for this long. */
  silenceMs?: number
  /** Open file that the command and its children inherit, so that a lock on it outlives this process. */
  holdFd?: number
  /** For `run`: a command that writes more to stdout is stopped, and has failed. Default 64 MiB. */
  mostBytes?: number
  /** Texts to redact in stderr. */
  secrets?: readonly string[]
  /** Receives every line of stderr, including progress. */
  onStderr?: (line: string) => void
}

/** A running git command. */
export interface GitProcess {
  stdin: Writable
  stdout: Readable
  /** Stops it and all its children; `ended` settles when that is done. */
  stop(): void
  /** Resolves when git exits with status 0. Rejects with GitFailure, or with the signal's reason. */
  ended: Promise<void>
}

/** Variables that git and ssh need. Everything else, above all secrets, is not passed on. */
const PASSED_ON =
  /^(PATH|TMPDIR|SSH_AUTH_SOCK|SSL_CERT_(FILE|DIR)|GIT_SSL_(CAINFO|CAPATH)|(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY)$/

const ALWAYS_CONFIGURED: [string, string][] = [
  ['core.hooksPath', '/dev/null'],
  ['core.attributesFile', '/dev/null'],
  ['core.safecrlf', 'false'],
  // git streams larger blobs, and holds smaller ones in memory.
  ['core.bigFileThreshold', '32m'],
  ['credential.helper', ''],
  ['gc.auto', '0'], // Mirror.maintain decides.
  ['init.defaultRefFormat', 'files'],
]

const STDERR_KEPT = 16 * 1024
const KILL_AFTER_MS = 3_000
const STDOUT_LIMIT = 64 * 1024 * 1024

/** Runs git with only Conveyor's settings, not those of the machine, the user or a template. */
export class Git {
  readonly #environment: Record<string, string>

  /**
   * @param environment source of PATH, proxies and certificates
   * @param home a folder without settings, instead of ~/.gitconfig and ~/.netrc
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

  /** Runs a git command; resolves to its stdout, which must be small. */
  async run(args: readonly string[], options: GitOptions = {}): Promise<Buffer> {
    const git = this.start(args, options)
    const chunks: Buffer[] = []
    let size = 0
    git.stdout.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      size += chunk.length
      if (size > (options.mostBytes ?? STDOUT_LIMIT)) git.stop()
    })
    // git may exit without reading all of its input; `ended` has the reason.
    git.stdin.on('error', () => {})
    git.stdin.end(options.input)
    await git.ended
    return Buffer.concat(chunks)
  }

  /** Creates an empty bare repository for commits like this one, whose ids are of SHA-1 or SHA-256. */
  async initBare(gitDir: string, sha: string): Promise<void> {
    const format = sha.length === 64 ? 'sha256' : 'sha1'
    await this.run(['init', '--quiet', '--bare', '--template=', `--object-format=${format}`, gitDir])
  }

  /** Starts git; the caller reads `stdout`, ends `stdin`, and awaits `ended`. */
  start(args: readonly string[], options: GitOptions = {}): GitProcess {
    options.signal?.throwIfAborted()
    const child = this.spawn(options.program ?? 'git', args, options)
    const command = options.program ?? args[0] ?? ''
    const stderr = keepStderr(child.stderr, options)
    const { promise: ended, resolve, reject } = Promise.withResolvers<void>()
    ended.catch(() => {}) // Readers that stop early do not await it.

    let failure: unknown
    let killTimer: NodeJS.Timeout | undefined
    const stop = (why: unknown = new GitFailure(command, 'was stopped', '')) => {
      if (child.exitCode !== null || child.signalCode !== null || failure) return
      failure = why
      signalGroup(child.pid, 'SIGTERM')
      killTimer = setTimeout(() => signalGroup(child.pid, 'SIGKILL'), KILL_AFTER_MS)
      // `close` is emitted only after stdout has ended, which nobody reads any more.
      child.stdout.destroy()
    }
    const onAbort = () => stop(options.signal?.reason)
    options.signal?.addEventListener('abort', onAbort)
    const silence = watchSilence(child.stderr, options.silenceMs, (seconds) =>
      stop(new GitFailure(command, 'was stopped', `timed out: no output for ${seconds} s`)),
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

  /** Starts a program in git's environment, in its own process group, so that it can be killed with its children. */
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
    hint: 'Install git 2.39 or newer, and make sure that it is on the PATH',
    cause,
  })
}

function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error // ESRCH: the group has exited already.
  }
}

/**
 * Collects the end of stderr, without progress lines, which end in a lone carriage return. Lines of ssh end in
 * CR LF.
 */
function keepStderr(stream: Readable, { secrets = [], onStderr }: GitOptions): () => string {
  let kept = ''
  let line = ''
  stream.setEncoding('utf8').on('data', (text: string) => {
    // A carriage return at the end may be the first half of CR LF.
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
