import { chalkStderr } from 'chalk'
import type { BuildJson } from '../../api/build.ts'
import { type FollowOptions, followBuild } from '../../client/client.ts'
import type { ErrorKind } from '../../core/errors.ts'
import { oneLine } from '../../core/one-line.ts'
import { EXIT_CODES, errorLines } from '../base-command.ts'
import { type ProgressOptions, progressView } from '../progress/choose.ts'
import { type Output, type ProgressView, plainProgress } from '../progress/view.ts'

/** The command's output on stdout, and its exit code. */
export interface CommandResult {
  output: string
  exitCode: number
}

/** How the commands that run a build show it. */
export interface ShowOptions {
  /** What is being built, for the terminal. */
  title: string
  json: boolean
  progress: ProgressOptions
}

/** A build that has ended. */
export interface Ended {
  build: BuildJson
  image: string | null
  error: string | null
  errorKind: ErrorKind | null
}

/** Shows a build on `stderr` while `run` runs it, and its error. @throws what `run` throws */
export async function showBuild(
  run: (view: ProgressView) => Promise<Ended>,
  { title, json, progress }: ShowOptions,
  stderr: Output,
): Promise<CommandResult> {
  const view = await progressView(stderr, title, progress)
  const ended = await run(view).finally(() => view.end())
  const { build, image, error } = ended
  if (build.state !== 'succeeded')
    stderr.write(`${errorLines(oneLine(error ?? build.state), chalkStderr.red('›'))}\n`)
  return {
    output: json ? buildText(build) : image ? `${image}\n` : '',
    exitCode: exitCodeOf(ended),
  }
}

function exitCodeOf({ build, errorKind }: Ended): number {
  if (build.state === 'succeeded') return 0
  // Cancelled by somebody else, not by Ctrl-C.
  return build.state === 'cancelled' ? 1 : EXIT_CODES[errorKind ?? 'build_failed']
}

/** Requests a build from a server, or takes an earlier one, and follows it. @throws as followBuild */
export async function follow(
  client: Omit<FollowOptions, 'onLog' | 'onNotice' | 'onState'>,
  view: ProgressView,
): Promise<Ended> {
  const onLog = (bytes: Uint8Array) => view.write(bytes)
  const onNotice = (line: string) => view.say(line)
  let isFirst = true
  const onState = (build: BuildJson) => {
    if (isFirst) sayWithheld(build, view)
    isFirst = false
  }
  const { build, image, error, error_kind } = await followBuild({ ...client, onLog, onNotice, onState })
  return { build, image, error, errorKind: error_kind }
}

/** The result of `--detach`. */
export function requested(build: BuildJson, json: boolean, stderr: Output): CommandResult {
  sayWithheld(build, plainProgress(stderr))
  return { output: json ? buildText(build) : `${build.id}\n`, exitCode: 0 }
}

function sayWithheld({ withheld = [] }: BuildJson, view: ProgressView): void {
  for (const { tag, reason } of withheld) view.say(`tag ${tag} is not moved: ${reason}`)
}

/** A build in JSON. */
export function buildText(build: BuildJson): string {
  return `${JSON.stringify(build, null, 2)}\n`
}
