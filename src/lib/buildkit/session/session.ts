import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import {
  logVerbosity,
  Server,
  ServerCredentials,
  setLogVerbosity,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { buildkitAuth } from '../../registry/auth-config.ts'
import type { CredentialStore } from '../../registry/registry.ts'
import type { Context } from '../../source/source.ts'
import type { Endpoint } from '../endpoint.ts'
import { AuthService } from '../gen/filesync.ts'
import { HealthCheckResponse_ServingStatus, HealthService } from '../gen/health.ts'
import { SecretsService } from '../gen/secrets.ts'
import { SSHService } from '../gen/ssh.ts'
import { FastFileSyncService, serveFiles } from './file-sync.ts'
import type { FileTimes } from './file-times.ts'
import { forwardAgent } from './ssh-forward.ts'
import { NO_TOKENS, TOKEN_METHODS } from './token-methods.ts'
import type { Transfer } from './transfer.ts'

// Otherwise grpc-js writes file names of repositories to stderr, bypassing our log (see wanted-paths.ts).
setLogVerbosity(logVerbosity.NONE)

/** What the session provides to BuildKit during a build. */
export interface SessionOptions {
  context: Context
  /** Modification times of the context's files. */
  times: Promise<FileTimes>
  /** Identifies the repository across builds, so that BuildKit requests changed files only. */
  sharedKey: string
  credentials: CredentialStore
  secrets: Record<string, Uint8Array>
  /** Socket of the SSH agent that steps may use; null for none. */
  ssh: string | null
}

/** A BuildKit session: a connection on which we are the gRPC server. */
export interface Session extends AsyncDisposable {
  id: string
  transfer: Transfer
  /**
   * Aborted, with the error as its reason, as soon as something fails on our side of the session. BuildKit may keep
   * waiting for a response then, or end the build, but reports only that the session broke.
   */
  broken: AbortSignal
}

/**
 * Opens a session. BuildKit checks its health every second, and drops it if there is no response.
 * @throws ConveyorError `unavailable` if BuildKit does not accept the session
 */
export async function openSession(
  endpoint: Pick<Endpoint, 'attach'>,
  options: SessionOptions,
): Promise<Session> {
  const id = randomUUID()
  const transfer: Transfer = { files: 0, bytes: 0 }
  const broken = new AbortController()
  const onError = (error: Error) => broken.abort(error)
  const session = { id, transfer, broken: broken.signal }
  const server = new Server({ 'grpc.max_receive_message_length': 16 * 1024 * 1024 })
  allowLargeHeaders(server)
  const methods: string[] = []
  const serve = (service: Parameters<Server['addService']>[0], handlers: UntypedServiceImplementation) => {
    server.addService(service, guarded(handlers, onError))
    for (const method of Object.values(service)) methods.push(method.path)
  }

  serve(HealthService, {
    check: (_call: unknown, done: Reply) => done(null, { status: HealthCheckResponse_ServingStatus.SERVING }),
  })
  serve(FastFileSyncService, {
    diffCopy: serveFiles({ context: options.context, times: options.times, transfer, onError }),
  })
  serve(AuthService, {
    credentials: (call: { request: { Host: string } }, done: Reply) => {
      options.credentials.forHost(call.request.Host).then(
        (credential) => done(null, buildkitAuth(credential)),
        (error: Error) => {
          onError(error)
          done({ code: status.UNAVAILABLE, details: error.message })
        },
      )
    },
  })
  server.addService(TOKEN_METHODS, NO_TOKENS)
  serve(SecretsService, {
    getSecret: (call: { request: { ID: string } }, done: Reply) => {
      const data = Object.hasOwn(options.secrets, call.request.ID)
        ? options.secrets[call.request.ID]
        : undefined
      if (data) done(null, { data: Buffer.from(data) })
      else
        done({ code: status.NOT_FOUND, details: `there is no build secret with the id ${call.request.ID}` })
    },
  })

  serve(SSHService, forwardAgent(options.ssh, onError))

  const socket = await endpoint.attach({ id, sharedKey: options.sharedKey, methods })
  // The engine closes the socket when it is done; a reset at that point is not an error.
  socket.on('error', () => {})
  server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection(socket)
  // Node processes data that has already arrived in the next tick, and throws if the connection is gone by then.
  await setImmediate()
  return Object.assign(session, {
    async [Symbol.asyncDispose]() {
      server.forceShutdown()
      socket.destroy()
    },
  })
}

/**
 * Paths of COPY arrive as headers, one each. Node rejects calls with more than 128 headers or 64 KiB, and grpc-js has no
 * option to change that other than those it passes on to Node.
 */
function allowLargeHeaders(server: Server): void {
  const options: unknown = Reflect.get(server, 'commonServerOptions')
  if (typeof options !== 'object' || options === null) throw new Error('grpc-js has no commonServerOptions')
  Object.assign(options, {
    maxHeaderListPairs: MAX_HEADERS,
    settings: { maxHeaderListSize: MAX_HEADER_BYTES },
  })
}

/** Limits for the headers of a call. */
const MAX_HEADERS = 2 ** 16
const MAX_HEADER_BYTES = 2 ** 20

/** An exception in a handler ends the call and the build, like any error on our side, but not the process. */
function guarded(
  handlers: UntypedServiceImplementation,
  onError: (error: Error) => void,
): UntypedServiceImplementation {
  const wrapped = Object.entries(handlers).map(([name, handler]) => {
    const call = (...args: Parameters<typeof handler>) => {
      try {
        ;(handler as (...args: unknown[]) => void)(...args)
      } catch (error) {
        onError(error as Error)
        args[0].emit('error', { code: status.INTERNAL, details: (error as Error).message })
      }
    }
    return [name, call] as const
  })
  return Object.fromEntries(wrapped) as UntypedServiceImplementation
}

type Reply = (error: { code: number; details: string } | null, value?: object) => void
