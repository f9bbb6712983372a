import { randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { Server, ServerCredentials, status, type UntypedServiceImplementation } from '@grpc/grpc-js'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../errors.ts'
import type { Credentials } from '../registry/registry.ts'
import type { Context } from '../source/source.ts'
import { FastFileSyncService, serveFiles } from './file-sync.ts'
import { AuthService } from './gen/filesync.ts'
import { HealthCheckResponse_ServingStatus, HealthService } from './gen/health.ts'
import { SecretsService } from './gen/secrets.ts'

/** What the engine may ask us for while it builds. */
export interface SessionOptions {
  context: Context
  /** What stays the same from build to build of a repository: the engine then asks only for changes. */
  sharedKey: string
  credentials: Credentials
  secrets: Record<string, Uint8Array>
}

/** Bytes and files that the engine asked for. */
export interface Transfer {
  files: number
  bytes: number
}

/** A BuildKit session: a connection to the engine on which we are the gRPC server. */
export interface Session extends AsyncDisposable {
  id: string
  transfer: Transfer
  /** What went wrong on our side of the session; the engine then reports only that the session broke. */
  error: Error | undefined
}

/**
 * Opens a session through the Docker Engine's `POST /session` (API 1.39 and later), upgraded to HTTP/2.
 * The engine checks our health every second and drops a session that does not answer.
 * @throws ConveyorError `unavailable` when the engine does not take the session.
 */
export async function openSession(docker: Dockerode, options: SessionOptions): Promise<Session> {
  const id = randomUUID()
  const transfer: Transfer = { files: 0, bytes: 0 }
  const session = { id, transfer, error: undefined as Error | undefined }
  const server = new Server({ 'grpc.max_receive_message_length': 16 * 1024 * 1024 })
  const methods: string[] = []
  const offer = (service: Parameters<Server['addService']>[0], handlers: UntypedServiceImplementation) => {
    server.addService(service, handlers)
    for (const method of Object.values(service)) methods.push(method.path)
  }

  offer(HealthService, {
    check: (_call: unknown, done: Reply) => done(null, { status: HealthCheckResponse_ServingStatus.SERVING }),
  })
  offer(FastFileSyncService, {
    diffCopy: serveFiles(options.context, transfer, (error) => {
      session.error ??= error
    }),
  })
  offer(AuthService, {
    credentials: (call: { request: { Host: string } }, done: Reply) => {
      options.credentials.forHost(call.request.Host).then(
        (found) => done(null, { Username: found?.username ?? '', Secret: found?.password ?? '' }),
        (error: Error) => {
          session.error ??= error
          done({ code: status.UNAVAILABLE, details: error.message })
        },
      )
    },
  })
  offer(SecretsService, {
    getSecret: (call: { request: { ID: string } }, done: Reply) => {
      const data = Object.hasOwn(options.secrets, call.request.ID)
        ? options.secrets[call.request.ID]
        : undefined
      if (data) done(null, { data: Buffer.from(data) })
      else done({ code: status.NOT_FOUND, details: `no build secret has the id ${call.request.ID}` })
    },
  })

  const socket = await hijack(docker, id, options.sharedKey, methods)
  // The engine closes the socket when it is done with it; a reset at that moment is no error of the build.
  socket.on('error', () => {})
  server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection(socket)
  return Object.assign(session, {
    async [Symbol.asyncDispose]() {
      server.forceShutdown()
      socket.destroy()
    },
  })
}

type Reply = (error: { code: number; details: string } | null, value?: object) => void

function hijack(docker: Dockerode, id: string, sharedKey: string, methods: string[]): Promise<Duplex> {
  const { promise, resolve, reject } = Promise.withResolvers<Duplex>()
  docker.modem.dial(
    {
      path: '/session',
      method: 'POST',
      hijack: true,
      headers: {
        Upgrade: 'h2c',
        'X-Docker-Expose-Session-Uuid': id,
        'X-Docker-Expose-Session-Name': 'conveyor',
        'X-Docker-Expose-Session-Sharedkey': sharedKey,
        // One header line a method.
        'X-Docker-Expose-Session-Grpc-Method': methods,
      },
      statusCodes: { 101: true, 200: true },
    },
    (error, socket) => {
      if (error) {
        reject(
          new ConveyorError(
            'unavailable',
            `the Docker engine did not open a build session: ${error.message}`,
            {
              cause: error,
              hint: 'Check that the engine runs (docker version) and is 20.10 or newer, and DOCKER_HOST',
            },
          ),
        )
      } else resolve(socket as Duplex)
    },
  )
  return promise
}
