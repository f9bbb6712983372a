import { isDockerfileStep } from '../buildkit/step-names.ts'
import { ConveyorError } from '../core/errors.ts'
import { frontendsOf } from '../dockerfile/instructions.ts'
import { innermost } from '../registry/messages.ts'

/** Errors of failed Dockerfile steps, in the forms recorded in test/support/registry/recordings. */

/** A step as BuildKit reports it. */
export interface FailedStep {
  /** `[build 2/3] COPY --from=web /dist /app` */
  name: string
  error: string
}

/** The stages of a Dockerfile, in lower case. */
export type Stages = ReadonlySet<string>

/** The name of a step, truncated so that a long command does not hide what follows. */
export function short(name: string): string {
  const line = name.replace(/\s+/g, ' ')
  return line.length > 80 ? `${line.slice(0, 79)}…` : line
}

/** A command that exited with a status other than 0; null for other errors. */
export function commandError({ name, error }: FailedStep, cause: unknown): ConveyorError | null {
  const exit = COMMAND.exec(error)?.[1]
  if (exit === undefined) return null
  return new ConveyorError('build_failed', `${short(name)} failed with exit code ${exit}`, {
    cause,
    ...(exit === '137' ? { hint: 'The command was killed, most likely because it ran out of memory' } : {}),
  })
}

const COMMAND =
  /^(?:process ".*" did not complete successfully|executor failed running \[.*\]): exit code: (\d+)$/s

/** A path that does not exist; null for other errors. */
export function missingPath(
  { name }: FailedStep,
  text: string,
  stages: Stages,
  cause: unknown,
): ConveyorError | null {
  const path = missingIn(innermost(text))
  if (path === undefined) return null
  const what = `${short(name)}: ${path === null ? 'its source' : `"${path}"`}`
  const from = sourceOf(name)
  if (from === null) {
    return new ConveyorError('build_failed', `${what} is not in the build context`, {
      cause,
      hint: 'Check the path in the Dockerfile, and that the file is committed and not excluded by .dockerignore',
    })
  }
  const isStage = /^\d+$/.test(from) || stages.has(from.toLowerCase())
  return new ConveyorError('build_failed', `${what} is not in the ${isStage ? 'stage' : 'image'} ${from}`, {
    cause,
    hint: isStage
      ? `Check the path in the Dockerfile, and that the stage ${from} creates it`
      : 'Check the path in the Dockerfile, and the name of the image',
  })
}

/** The missing path; null if it is not named, undefined if nothing is missing. */
function missingIn(text: string): string | null | undefined {
  // Also keeps the expressions from backtracking in long texts.
  if (text.includes('\n')) return undefined
  if (text.endsWith(' not found')) return NAMED.exec(text)?.[1]
  if (!text.endsWith(NO_FILE) || !WALKED.test(text)) return undefined
  const at = text.startsWith(LSTAT) ? 0 : text.lastIndexOf(`: ${LSTAT}`) + 2
  // For a directory, BuildKit reports the path on the builder's disk.
  return MOUNT.exec(text.slice(at + LSTAT.length, -NO_FILE.length))?.[1] ?? null
}

const CHECKSUM = '(?:failed to calculate checksum of ref \\S+: )?'
const NAMED = new RegExp(`^${CHECKSUM}"([^"]+)":? not found(?:: not found)?$`)
const LSTAT = 'lstat '
const NO_FILE = ': no such file or directory'
const WALKED = new RegExp(`^(?:${CHECKSUM}failed to walk [^\\n]+: )?lstat [^\\n]`)
const MOUNT = /^\/(?:[^\n]+\/)?(?:buildkit-mount\d+|overlay2\/[0-9a-z]+\/merged)(\/[^\n]*)$/

/** The stage or image that a step copies or mounts from; null for the build context. */
function sourceOf(name: string): string | null {
  const [, flags = ''] = /^\[[^\]]*\] [A-Z]+ ((?:--\S+ )*)/.exec(name) ?? []
  for (const flag of flags.split(' ')) {
    const [, from] = /^--from=(\S+)$/.exec(flag) ?? /^--mount=(?:\S*,)?from=([^,\s]+)/.exec(flag) ?? []
    if (from !== undefined) return from
  }
  return null
}

/** A URL that could not be downloaded (ADD); null for other errors. */
export function remoteFileError({ name }: FailedStep, text: string, cause: unknown): ConveyorError | null {
  const urls = urlsOf(name)
  if (urls.length === 0) return null
  const rest = innermost(text)
  const status = Number(/^invalid response status (\d{3})$/.exec(rest)?.[1] ?? 0)
  const what = isDockerfileStep(name) ? `${short(name)}: ` : ''
  const url = urls.join(' or ')
  if (status !== 0) {
    const passes = status === 429 || status >= 500
    return new ConveyorError(
      passes ? 'unavailable' : 'build_failed',
      `${what}${url} answered HTTP ${status}`,
      {
        cause,
        hint: passes
          ? 'The server failed or is rate-limiting requests: try again later'
          : 'Check the URL in the Dockerfile; it must be accessible without a login',
      },
    )
  }
  const why = /^(?:Get|Head) "[^"]*": ([^\n]+)$/.exec(rest)?.[1] ?? /^unexpected EOF$/.exec(rest)?.[0]
  if (why === undefined) return null
  return new ConveyorError('unavailable', `${what}${url} could not be downloaded: ${why}`, {
    cause,
    hint: 'Check that the server is running and that the builder can reach it',
  })
}

/** The URLs of an ADD, without credentials; older versions of BuildKit have a step per URL. */
function urlsOf(name: string): string[] {
  const [, sources = name] = /^\[[^\]]*\] ADD (.*)$/s.exec(name) ?? []
  if (sources === name && isDockerfileStep(name)) return []
  return sources
    .split(/[\s,[\]"]+/)
    .filter((part) => /^https?:\/\//.test(part))
    .map((url) => url.replace(/^(https?:\/\/)[^/@]*@/, '$1'))
}

/** A Dockerfile feature that the frontend is too old for; null for other errors. */
export function oldFrontend(text: string, dockerfile: string, cause: unknown): ConveyorError | null {
  const rest = innermost(text)
  const [, line = '', problem = ''] = PARSE_ERROR.exec(rest) ?? []
  const flag = /^unknown flag: (?:--)?([a-z-]+)$/i.exec(problem)?.[1] ?? ''
  const lines = dockerfile.split('\n').slice(0, Number(line))
  const isHeredoc = /^unknown instruction: /.test(problem) && lines.some((one) => HEREDOC.test(one))
  const feature = isHeredoc ? 'heredocs' : NEWER.get(flag)
  if (feature === undefined) return null
  const [syntax] = frontendsOf(dockerfile)
  const change = syntax
    ? `Use a newer version than ${syntax} in the \`# syntax=\` line`
    : `Start the Dockerfile with \`# syntax=docker/dockerfile:${LABS.has(flag) ? '1-labs' : '1'}\`, or use a newer engine`
  return new ConveyorError('build_failed', `${rest}: the Dockerfile frontend does not support ${feature}`, {
    cause,
    hint: change,
  })
}

const PARSE_ERROR = /^dockerfile parse error (?:on )?line (\d+): ([^\n]+)$/

/** The line of the Dockerfile that the frontend cannot parse; undefined for other errors. */
export function parseErrorLine(text: string): number | undefined {
  const [, line] = PARSE_ERROR.exec(text) ?? []
  return line === undefined ? undefined : Number(line)
}

const HEREDOC = /^\s*(?:RUN|COPY|ADD|ONBUILD)\s.*<<-?["']?[A-Za-z_]/i
/** Flags of later versions: https://docs.docker.com/reference/dockerfile/ */
const NEWER = new Map(
  [
    'link',
    'checksum',
    'keep-git-dir',
    'parents',
    'exclude',
    'unpack',
    'mount',
    'network',
    'security',
    'chmod',
    'start-interval',
  ].map((flag) => [flag, `--${flag}`]),
)
const LABS = new Set(['parents', 'exclude', 'security'])
