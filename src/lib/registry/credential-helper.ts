import { execFile } from 'node:child_process'
import { ConveyorError } from '../core/errors.ts'
import { configError, type DockerConfig, entryFor, isRecord, parseJson } from './docker-config.ts'
import { DOCKER_HUB } from './image-name.ts'
import type { RegistryCredential } from './registry.ts'

/** Docker's credential helpers: https://github.com/docker/docker-credential-helpers#development */

/** What helpers print when they have no credential: https://github.com/docker/docker-credential-helpers/blob/master/credentials/error.go */
const NOT_FOUND = 'credentials not found in native keychain'

/**
 * The credential that `docker-credential-NAME get` returns for a canonical host; null if it has none.
 * @throws ConveyorError `invalid` if the helper fails; the message never includes what it printed
 */
export async function getFromHelper(
  config: DockerConfig,
  helper: string,
  host: string,
  timeoutMs: number,
): Promise<RegistryCredential | null> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(helper)) {
    throw configError(config.file, `the credential helper for ${host} has an invalid name`)
  }
  const program = programOf(helper)
  // Docker records in `auths` under which spelling it stored a login.
  const server =
    entryFor(config.auths, host)?.key ?? (host === DOCKER_HUB ? 'https://index.docker.io/v1/' : host)
  const failed = (why: string, hint?: string) =>
    new ConveyorError('invalid', `${program} (named in ${config.file} for ${host}) ${why}`, {
      hint: hint ?? `Run \`echo ${server} | ${program} get\` to see what is wrong`,
    })

  const { error, stdout } = await run(program, 'get', server, timeoutMs)
  if (error) {
    if (stdout.trim() === NOT_FOUND) return null
    if (error.code === 'ENOENT')
      throw failed('is not installed', `Install ${program}, or log in again without it`)
    if (error.killed) throw failed(`did not respond within ${timeoutMs / 1000} s`)
    throw failed(`failed (exit status ${error.code ?? error.signal ?? 'unknown'})`)
  }
  const answer = parseJson(stdout)
  if (!isRecord(answer) || typeof answer.Username !== 'string' || typeof answer.Secret !== 'string') {
    throw failed('returned something other than {Username, Secret}')
  }
  if (answer.Secret === '') return null
  return { username: answer.Username, password: answer.Secret }
}

/** The servers that `docker-credential-NAME list` has logins for, or why they cannot be listed. */
export async function listHelper(
  helper: string,
  timeoutMs: number,
): Promise<{ servers: string[] } | { failure: string }> {
  const program = programOf(helper)
  const { error, stdout } = await run(program, 'list', '', timeoutMs)
  if (error?.code === 'ENOENT') return { failure: `${program} is not installed` }
  const servers = error ? undefined : parseJson(stdout)
  return isRecord(servers)
    ? { servers: Object.keys(servers) }
    : { failure: `${program} does not list its logins` }
}

function programOf(helper: string): string {
  return `docker-credential-${helper}`
}

interface RunResult {
  error: { code?: string | number | null; signal?: string | null; killed?: boolean } | null
  stdout: string
}

function run(program: string, command: string, input: string, timeoutMs: number): Promise<RunResult> {
  return new Promise((resolve) => {
    const options = { timeout: timeoutMs, killSignal: 'SIGKILL' as const, maxBuffer: 1 << 20 }
    const child = execFile(program, [command], options, (error, stdout) =>
      resolve({ error: error as RunResult['error'], stdout }),
    )
    // If a helper exits without reading its input, the callback above reports it; EPIPE adds nothing.
    child.stdin?.on('error', () => {})
    child.stdin?.end(input)
  })
}
