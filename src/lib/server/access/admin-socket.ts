import { chmod, lstat, mkdir, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { fastify } from 'fastify'
import { operatingUser, socketPathProblem } from '../../core/access/admin-socket.ts'
import { type TokensRoutesOptions, tokensRoutes } from '../api/tokens.ts'
import { SCHEMAS } from '../api/values.ts'
import { sendError, sendProblem } from '../problems.ts'
import { identityWith } from './identity.ts'

export interface AdminSocketOptions extends TokensRoutesOptions {
  /** Where the socket is created, in a folder that is this server's; one that a killed server left is replaced. */
  path: string
}

export interface AdminSocket {
  /** Removes the socket. */
  close(): Promise<void>
}

/**
 * The tokens API for the user of this process alone, on a Unix socket: so the first token can be created while the server
 * has the database. Does without it, and logs why, if other users could replace the socket.
 */
export async function openAdminSocket(options: AdminSocketOptions): Promise<AdminSocket | null> {
  const { path, log } = options
  const problem = socketPathProblem(path) ?? (await makePrivate(dirname(path))) ?? (await removeStale(path))
  const without = (why: string) => {
    log(`warning: \`conveyor token\` cannot reach this server without --url: ${why}`)
    return null
  }
  if (problem !== null) return without(problem)
  const app = fastify({ forceCloseConnections: true, requestTimeout: 30_000, schemaController: SCHEMAS })
  const identity = identityWith(operatingUser(), 'admin')
  app.decorateRequest('identity')
  app.addHook('onRequest', async (request) => {
    request.identity = identity
    // There are no pages here.
    request.headers.accept = 'application/json'
  })
  app.setErrorHandler((error, _request, reply) => sendError(reply, error))
  app.setNotFoundHandler((_request, reply) =>
    sendProblem(reply, 404, 'not_found', 'this socket serves only /tokens'),
  )
  await app.register(tokensRoutes, options)
  await app.ready()
  try {
    await listenPrivately(app.server, path)
  } catch (error) {
    await app.close()
    return without((error as Error).message)
  }
  return { close: () => app.close() }
}

/** Nobody else may connect, not even before the mode is set: without write permission they cannot. */
async function listenPrivately(server: ReturnType<typeof fastify>['server'], path: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  // Binds at once, with the modes that this mask leaves.
  const before = process.umask(0o177)
  try {
    server.listen({ path }, resolve)
  } finally {
    process.umask(before)
  }
  await promise
  server.off('error', reject)
  await chmod(path, 0o600)
}

/**
 * Creates the folder, since others may be allowed to write to the one above, as in Conveyor's image. What is wrong with it,
 * or null: whoever can write to it could put a socket of their own there.
 */
async function makePrivate(folder: string): Promise<string | null> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const found = await lstat(folder)
    if (!found.isDirectory()) return `${folder} is not a folder`
    const { mode, uid } = found
    const own = process.getuid?.()
    if (own !== undefined && uid !== own && uid !== 0) return `${folder} belongs to another user`
    return (mode & 0o022) === 0 ? null : `${folder} can be written to by other users (chmod go-w ${folder})`
  } catch (error) {
    return (error as Error).message
  }
}

/** Removes the socket of a server that was killed. What is wrong with the path, or null. */
async function removeStale(path: string): Promise<string | null> {
  const found = await lstat(path).catch(() => null)
  if (found === null) return null
  if (!found.isSocket()) return `${path} exists and is not a socket`
  if (await isServed(path)) return `another process serves ${path}`
  await rm(path, { force: true })
  return null
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    const done = (served: boolean) => {
      socket.destroy()
      resolve(served)
    }
    socket.once('connect', () => done(true))
    socket.once('error', () => done(false))
  })
}
