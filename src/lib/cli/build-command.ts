import type { Writable } from 'node:stream'
import { chalkStderr } from 'chalk'
import { type BuildJson, buildJson } from '../api/views.ts'
import { followBuild, parseTarget, requestOnly } from '../client/client.ts'
import type { Config } from '../config/config.ts'
import { serverLogin } from '../config/server-login.ts'
import type { ErrorKind } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import type { Proxies } from '../net/proxies.ts'
import { untilStopped } from '../util/lifecycle.ts'
import { EXIT_CODES, errorLines } from './base-command.ts'

export interface BuildCommandOptions {
  /** `owner/name:sha` and the like. */
  target: string
  url: string
  auth?: string | undefined
  cache: boolean
  detach: boolean
  json: boolean
  local: boolean
  /** On the way to the server. */
  proxies: Proxies
  /** Read only for a local build. @throws ConveyorError `invalid` */
  config: () => Config
}

/** What the command prints on stdout, and ends with. */
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
 * `conveyor build`: asks a server for a build and follows its log on `stderr`, or runs it here.
 * @throws ConveyorError when the build could not be asked for or followed; a build that fails is a result
 */
export async function buildCommand(options: BuildCommandOptions, stderr: Writable): Promise<CommandResult> {
  const request = { ...parseTarget(options.target), cache: options.cache }
  const stop = untilStopped()
  const onLog = (bytes: Uint8Array) => drained(stderr, bytes)
  const auth = options.local ? null : await serverLogin(options)
  const client = { url: options.url, auth, request, proxies: options.proxies, signal: stop }

  if (options.detach) {
    const build = await requestOnly(client)
    sayWithheld(build, stderr)
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
  // It was not us who were stopped.
  return build.state === 'cancelled' ? 1 : EXIT_CODES[errorKind ?? 'build_failed']
}

async function remote(
  client: Parameters<typeof requestOnly>[0],
  onLog: (bytes: Uint8Array) => Promise<void>,
  stderr: Writable,
): Promise<Ended> {
  const onNotice = (line: string) => say(line, stderr)
  let said = false
  const onState = (build: BuildJson) => {
    if (!said) sayWithheld(build, stderr)
    said = true
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
  // Everything that builds is loaded only here: following a server's build starts in half the time.
  const { buildLocal } = await import('../app/build-local.ts')
  const io = { stdout: stderr, log: (line: string) => say(line, stderr) }
  const target = parseTarget(options.target)
  const { build, image, logFile } = await buildLocal(options.config(), target, options.cache, onLog, io, stop)
  const shown = { ...buildJson(build, image, ''), log: `file://${logFile}` }
  return { build: shown, image, error: build.error, errorKind: build.errorKind }
}

function sayWithheld({ withheld = [] }: BuildJson, stderr: Writable): void {
  for (const { tag, reason } of withheld) say(`tag ${tag} is not moved: ${reason}`, stderr)
}

/** A line about the build that is none of its log's. */
function say(line: string, stderr: Writable): void {
  stderr.write(`conveyor: ${oneLine(line)}\n`)
}

function json(build: BuildJson): string {
  return `${JSON.stringify(build, null, 2)}\n`
}

/** Resolves when there is room for more, and where nobody reads any more. */
function drained(out: Writable, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve) => out.write(bytes, () => resolve()))
}
