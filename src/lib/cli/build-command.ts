import { buildJson } from '../api/views.ts'
import { type BuildTarget, parsePullTarget, parseTarget, requestOnly } from '../client/client.ts'
import { serverLogin } from '../config/client/login.ts'
import type { Config } from '../config/config.ts'
import type { Proxies } from '../net/proxies.ts'
import { untilStopped } from '../util/lifecycle.ts'
import { type CommandResult, type Ended, follow, requested, showBuild } from './builds/follow.ts'
import type { ProgressOptions } from './progress/choose.ts'
import type { Output, ProgressView } from './progress/view.ts'

export interface BuildCommandOptions {
  /** See parseTarget. */
  target: string
  /** The number of the pull request whose head `target` names; see parsePullTarget. */
  pull?: number | undefined
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

/**
 * `conveyor build`: requests a build from a server and prints its log on `stderr`, or runs it locally.
 * @throws ConveyorError if the build cannot be requested or followed; a failed build is a result
 */
export async function buildCommand(options: BuildCommandOptions, stderr: Output): Promise<CommandResult> {
  const { pull } = options
  const wanted = pull === undefined ? parseTarget(options.target) : parsePullTarget(options.target, pull)
  const request = { ...wanted, cache: options.cache }
  const stop = untilStopped()
  const auth = options.local ? null : await serverLogin(options)
  const { proxies, trace } = options
  const client = { url: options.url, auth, request, proxies, trace, signal: stop }

  if (options.detach) return requested(await requestOnly(client), options.json, stderr)
  const run = (view: ProgressView) =>
    options.local ? local(options, stop, view, stderr) : follow(client, view)
  return await showBuild(run, { ...options, title: `building ${options.target}` }, stderr)
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
