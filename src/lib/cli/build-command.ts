import type { Writable } from 'node:stream'
import { chalkStderr } from 'chalk'
import type { BuildJson } from '../api/build.ts'
import { buildJson } from '../api/views.ts'
import { type BuildTarget, followBuild, parseTarget, requestOnly } from '../client/client.ts'
import type { Config } from '../config/config.ts'
import { serverLogin } from '../config/server-login.ts'
import type { ErrorKind } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import type { Proxies } from '../net/proxies.ts'
import { untilStopped } from '../util/lifecycle.ts'
import { EXIT_CODES, errorLines } from './base-command.ts'

export interface BuildCommandOptions {
  /** See parseTarget. */
  target: string
  url: string
  auth?: string | undefined
  cache: boolean
  detach: boolean
  json: boolean
  local: boolean
  /** Proxies for reaching the server. */
  proxies: Proxies
  /** Called only for local builds. @throws ConveyorError `invalid` */
  config: () => Config
}

/** The command's output on stdout, and its exit code. */
export interface CommandResult {
  output: string
  exitCode: number
}

interface Ended {
  build: BuildJson
  image: string | null
  error: string | null
  errorKind: ErrorKind | null
}

/**
 * `conveyor build`: requests a build from a server and prints its log on `stderr`, or runs it locally.
 * @throws ConveyorError if the build cannot be requested or followed; a failed build is a result
 */
export async function buildCommand(options: BuildCommandOptions, stderr: Writable): Promise<CommandResult> {
  const request = { ...parseTarget(options.target), cache: options.cache }
  const stop = untilStopped()
  const onLog = (bytes: Uint8Array) => drained(stderr, bytes)
  const auth = options.local ? null : await serverLogin(options)
  const client = { url: options.url, auth, request, proxies: options.proxies, signal: stop }

  if (options.detach) {
    const build = await requestOnly(client)
    printWithheld(build, stderr)
    return { output: options.json ? json(build) : `${build.id}\n`, exitCode: 0 }
  }

  const ended = options.local
    ? await local(options, stop, onLog, stderr)
    : await remote(client, onLog, stderr)
  if (ended.build.state !== 'succeeded')
    stderr.write(`${errorLines(oneLine(ended.error ?? ended.build.state), chalkStderr.red('›'))}\n`)
  return {
    output: options.json ? json(ended.build) : ended.image ? `${ended.image}\n` : '',
    exitCode: exitCodeOf(ended),
  }
}

function exitCodeOf({ build, errorKind }: Ended): number {
  if (build.state === 'succeeded') return 0
  // Cancelled by somebody else, not by Ctrl-C.
  return build.state === 'cancelled' ? 1 : EXIT_CODES[errorKind ?? 'build_failed']
}

async function remote(
  client: Parameters<typeof requestOnly>[0],
  onLog: (bytes: Uint8Array) => Promise<void>,
  stderr: Writable,
): Promise<Ended> {
  const onNotice = (line: string) => say(line, stderr)
  let isFirst = true
  const onState = (build: BuildJson) => {
    if (isFirst) printWithheld(build, stderr)
    isFirst = false
  }
  const { build, image, error, error_kind } = await followBuild({ ...client, onLog, onNotice, onState })
  return { build, image, error, errorKind: error_kind }
}

async function local(
  options: BuildCommandOptions,
  stop: AbortSignal,
  onLog: (bytes: Uint8Array) => Promise<void>,
  stderr: Writable,
): Promise<Ended> {
  // Loaded only here: without the builder, following a build on a server starts in half the time.
  const { buildLocal } = await import('../app/build-local.ts')
  const io = { stdout: stderr, log: (line: string) => say(line, stderr) }
  const order = orderOf(parseTarget(options.target))
  const { build, image, logFile } = await buildLocal(options.config(), order, options.cache, onLog, io, stop)
  const shown = { ...buildJson(build, image, ''), log: `file://${logFile}` }
  return { build: shown, image, error: build.error, errorKind: build.errorKind }
}

function orderOf(target: BuildTarget) {
  const { repository } = target
  return 'sha' in target
    ? { repository, sha: target.sha, ref: null }
    : { repository, sha: null, ref: { kind: 'branch' as const, name: target.branch } }
}

function printWithheld({ withheld = [] }: BuildJson, stderr: Writable): void {
  for (const { tag, reason } of withheld) say(`tag ${tag} is not moved: ${reason}`, stderr)
}

/** Prints a line that is not part of the build's log. */
function say(line: string, stderr: Writable): void {
  stderr.write(`conveyor: ${oneLine(line)}\n`)
}

function json(build: BuildJson): string {
  return `${JSON.stringify(build, null, 2)}\n`
}

/** Resolves when more can be written, also after the reader has gone. */
function drained(out: Writable, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => out.write(bytes, () => resolve()))
}
