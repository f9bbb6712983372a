import { chalkStderr } from 'chalk'
import type { BuildJson } from '../api/build.ts'
import { buildJson } from '../api/views.ts'
import { type BuildTarget, followBuild, parseTarget, requestOnly } from '../client/client.ts'
import { serverLogin } from '../config/client/login.ts'
import type { Config } from '../config/config.ts'
import type { ErrorKind } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import type { Proxies } from '../net/proxies.ts'
import { untilStopped } from '../util/lifecycle.ts'
import { EXIT_CODES, errorLines } from './base-command.ts'
import { type ProgressOptions, progressView } from './progress/choose.ts'
import { type Output, type ProgressView, plainProgress } from './progress/view.ts'

export interface BuildCommandOptions {
  /** See parseTarget. */
  target: string
  url: string
  auth?: string | undefined
  cache: boolean
  detach: boolean
  json: boolean
  local: boolean
  progress: ProgressOptions
  /** Proxies for reaching the server. */
  proxies: Proxies
  /** A W3C `traceparent`. */
  trace: string | undefined
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
export async function buildCommand(options: BuildCommandOptions, stderr: Output): Promise<CommandResult> {
  const request = { ...parseTarget(options.target), cache: options.cache }
  const stop = untilStopped()
  const auth = options.local ? null : await serverLogin(options)
  const { proxies, trace } = options
  const client = { url: options.url, auth, request, proxies, trace, signal: stop }

  if (options.detach) {
    const build = await requestOnly(client)
    printWithheld(build, plainProgress(stderr))
    return { output: options.json ? json(build) : `${build.id}\n`, exitCode: 0 }
  }

  const view = await progressView(stderr, `building ${options.target}`, options.progress)
  const ended = await (options.local ? local(options, stop, view, stderr) : remote(client, view)).finally(
    () => view.end(),
  )
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

async function remote(client: Parameters<typeof requestOnly>[0], view: ProgressView): Promise<Ended> {
  const onLog = (bytes: Uint8Array) => view.write(bytes)
  const onNotice = (line: string) => view.say(line)
  let isFirst = true
  const onState = (build: BuildJson) => {
    if (isFirst) printWithheld(build, view)
    isFirst = false
  }
  const { build, image, error, error_kind } = await followBuild({ ...client, onLog, onNotice, onState })
  return { build, image, error, errorKind: error_kind }
}

async function local(
  options: BuildCommandOptions,
  stop: AbortSignal,
  view: ProgressView,
  stderr: Output,
): Promise<Ended> {
  // Loaded only here: without the builder, following a build on a server starts in half the time.
  const { buildLocal } = await import('../app/build-local.ts')
  const io = { stdout: stderr, log: (line: string) => view.say(line) }
  const order = orderOf(parseTarget(options.target))
  const onLog = (bytes: Uint8Array) => view.write(bytes)
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

function printWithheld({ withheld = [] }: BuildJson, view: ProgressView): void {
  for (const { tag, reason } of withheld) view.say(`tag ${tag} is not moved: ${reason}`)
}

function json(build: BuildJson): string {
  return `${JSON.stringify(build, null, 2)}\n`
}
