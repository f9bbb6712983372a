import { lstat } from 'node:fs/promises'
import { tokenJson } from '../../api/token.ts'
import { openBuildStore } from '../../app/setup.ts'
import { Connection } from '../../client/connection.ts'
import { remoteTokens, type TokenClient } from '../../client/tokens.ts'
import { serverLogin } from '../../config/client/login.ts'
import type { Config } from '../../config/config.ts'
import type { AccessTokens } from '../../core/access/access-token.ts'
import { adminSocketOf, operatingUser, socketPathProblem } from '../../core/access/admin-socket.ts'
import { issueToken, revokeToken } from '../../core/access/issue-token.ts'
import { ConveyorError, toConveyorError } from '../../core/errors.ts'
import type { Proxies } from '../../net/proxies.ts'
import { Releaser } from '../../util/lifecycle.ts'

export interface TokenServer {
  /** The URL of a server; without one, the tokens of this machine's configuration are meant. */
  url: string | undefined
  /** See serverLogin. */
  auth: string | undefined
  proxies: Proxies
  /** @throws ConveyorError `invalid` */
  config: () => Config
}

/** A server answers these requests at once. */
const SILENCE_MS = 30_000

/**
 * Runs `work` on the tokens of a server: over the API if a URL is given, over the admin socket of a server on this machine
 * that has the SQLite database, and otherwise in the database itself.
 * @throws ConveyorError
 */
export async function withTokens<T>(
  server: TokenServer,
  work: (tokens: TokenClient) => Promise<T>,
): Promise<T> {
  const { url, auth, proxies } = server
  if (url !== undefined) {
    const login = await serverLogin({ url, auth })
    await using connection = new Connection(url, login, SILENCE_MS, { proxies })
    return await work(remoteTokens(connection))
  }
  const config = server.config()
  const socketPath = config.db.kind === 'sqlite' ? adminSocketOf(config.db.file) : null
  if (socketPath !== null && (await isSocket(socketPath))) {
    await using connection = new Connection('http://localhost', null, SILENCE_MS, { socketPath })
    try {
      return await work(remoteTokens(connection))
    } catch (error) {
      if (hasCode(error, 'EACCES', 'EPERM')) throw otherUser(socketPath)
      // A server that was killed has left it.
      if (!hasCode(error, 'ECONNREFUSED', 'ENOENT')) throw error
    }
  }
  const isNew = config.db.kind === 'sqlite' && (await lstat(config.db.file).catch(() => null)) === null
  await using releaser = new Releaser((line) => process.stderr.write(`${line}\n`))
  const store = await openBuildStore(config, releaser).catch((error: unknown) => {
    const problem = socketPath === null ? null : socketPathProblem(socketPath)
    const { kind, message } = toConveyorError(error, 'opening the database failed')
    throw problem === null
      ? error
      : new ConveyorError(kind, message, { hint: withoutSocket(problem), cause: error })
  })
  if (isNew && config.db.kind === 'sqlite') {
    process.stderr.write(
      `warning: there was no database at ${config.db.file}, so it was created. A server with another --data-dir or --db does not know its tokens\n`,
    )
  }
  return await work(storedTokens(store.tokens))
}

function withoutSocket(problem: string): string {
  return `The server cannot be asked instead, as ${problem}, or give the --url of the server`
}

/** The tokens in a store that this process has opened. */
function storedTokens(tokens: AccessTokens): TokenClient {
  return {
    async create({ name, scope, repositories = [], expires_in: expiresIn = null }) {
      const order = { name, scope, repositories, expiresIn }
      const { token, text } = await issueToken(tokens, order, operatingUser())
      return { ...tokenJson(token), token: text }
    },
    list: async () => (await tokens.list()).map(tokenJson),
    revoke: async (key) => tokenJson(await revokeToken(tokens, key)),
  }
}

/** A path that is too long would be cut off. */
async function isSocket(path: string): Promise<boolean> {
  if (socketPathProblem(path) !== null) return false
  const found = await lstat(path).catch(() => null)
  return found?.isSocket() ?? false
}

function otherUser(socketPath: string): ConveyorError {
  return new ConveyorError('unauthorized', `${socketPath} is for the user that the server runs as`, {
    hint: 'Run this as that user, or give the --url of the server and a token with the scope admin',
  })
}

/** Whether an error, or what caused it, has one of these system codes. */
function hasCode(error: unknown, ...codes: string[]): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (codes.includes((cause as NodeJS.ErrnoException).code ?? '')) return true
  }
  return false
}
