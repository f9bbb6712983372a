import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { ConveyorError } from '../core/errors.ts'

/** Keys of docker's config.json, and the variables that they become, in upper and lower case. */
const VARIABLES = {
  httpProxy: 'HTTP_PROXY',
  httpsProxy: 'HTTPS_PROXY',
  ftpProxy: 'FTP_PROXY',
  noProxy: 'NO_PROXY',
  allProxy: 'ALL_PROXY',
}

/** The engine that docker uses by default. */
const LOCAL = 'unix:///var/run/docker.sock'

/**
 * The proxies that docker passes to builds and containers: `proxies` in its config.json, for this engine or else the
 * `default`. https://docs.docker.com/engine/cli/proxy/
 * BuildKit passes build arguments of these names to steps, but keeps them out of images and cache keys.
 * @param configDir folder of config.json; null: ~/.docker
 * @returns values by variable; empty without proxies
 * @throws ConveyorError `invalid` that names the file, when it is not valid
 */
export async function dockerProxies(
  configDir: string | null,
  dockerHost: string | null,
): Promise<Record<string, string>> {
  const file = join(configDir ?? join(homedir(), '.docker'), 'config.json')
  const { proxies } = await readConfig(file)
  if (proxies === undefined || proxies === null) return {}
  if (!isRecord(proxies)) throw broken(file, 'proxies is not an object')
  const chosen = proxies[dockerHost ?? LOCAL] ?? proxies.default ?? {}
  if (!isRecord(chosen)) throw broken(file, 'proxies has an entry that is not an object')
  const values: Record<string, string> = {}
  for (const [key, variable] of Object.entries(VARIABLES)) {
    const value = chosen[key]
    if (value === undefined || value === '') continue
    if (typeof value !== 'string') throw broken(file, `${key} of proxies is not a string`)
    values[variable] = values[variable.toLowerCase()] = value
  }
  return values
}

async function readConfig(file: string): Promise<Record<string, unknown>> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    if (['ENOENT', 'ENOTDIR'].includes(code)) return {}
    throw broken(file, `cannot be read (${code})`)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // The parser's own message would quote the text.
    throw broken(file, 'is not JSON')
  }
  if (!isRecord(value)) throw broken(file, 'is not a JSON object')
  return value
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function broken(file: string, why: string): ConveyorError {
  return new ConveyorError('invalid', `${file}: ${why}`, { hint: 'Fix the file' })
}
