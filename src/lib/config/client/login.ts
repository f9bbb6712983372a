import { readFile } from 'node:fs/promises'
import { parseEnv } from 'node:util'
import type { ServerLogin } from '../../api/server-login.ts'
import { isTokenText, looksLikeToken } from '../../core/access/access-token.ts'
import { ConveyorError } from '../../core/errors.ts'
import { isLoopback } from '../../net/loopback.ts'
import { parseCredentials } from '../values.ts'

/** What `conveyor bootstrap` writes. */
const SETTINGS = '.env'

/**
 * The credentials for a server: those that were given, in `auth` or in its URL, or those of the settings in this
 * folder. They are for the server of these settings alone: on this machine, or at their BASE_URL.
 * @param auth `user:pass`, a token, or `none`
 * @throws ConveyorError `invalid`
 */
export async function serverLogin(server: {
  url: string
  auth?: string | undefined
}): Promise<ServerLogin | null> {
  if (server.auth) return credentials(server.auth, '--auth (CONVEYOR_AUTH, CONVEYOR_TOKEN, BASIC_AUTH)')
  const url = URL.parse(server.url)
  // What is wrong with it, the connection says.
  if (url?.username !== '') return null
  const { BASE_URL = '', BASIC_AUTH } = parseEnv(await settings())
  const isIts = isLoopback(url.hostname) || URL.parse(BASE_URL)?.origin === url.origin
  return BASIC_AUTH && isIts ? credentials(BASIC_AUTH, `BASIC_AUTH in ${SETTINGS}`) : null
}

function credentials(text: string, from: string): ServerLogin | null {
  if (text === 'none') return null
  if (looksLikeToken(text)) {
    if (isTokenText(text)) return { token: text }
    throw new ConveyorError('invalid', `${from} is not usable: the token is mistyped or incomplete`)
  }
  const parsed = parseCredentials(text)
  if (!parsed) throw new ConveyorError('invalid', `${from} is not usable: expected user:pass or a token`)
  return parsed
}

/** Empty where there are none, or none that we may read. */
async function settings(): Promise<string> {
  try {
    return await readFile(SETTINGS, 'utf8')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (['ENOENT', 'EACCES', 'EISDIR', 'ENOTDIR'].includes(code)) return ''
    throw error
  }
}
