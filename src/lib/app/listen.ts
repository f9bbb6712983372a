import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/config.ts'
import { ConveyorError } from '../core/errors.ts'
import { createOperationsServer, type OperationsOptions } from '../server/operations.ts'
import type { Releaser } from '../util/lifecycle.ts'
import type { SetupIo } from './setup.ts'

/** Where to listen, and how people set that. */
interface Place {
  host: string
  port: number
  /** `--port (PORT)`. */
  portOption: string
  hostOption: string
}

/** Listens. @returns the port @throws ConveyorError if the port is in use, or not permitted */
export async function listen(server: FastifyInstance, place: Place): Promise<number> {
  const { host, port } = place
  try {
    await server.listen({ host, port })
  } catch (error) {
    throw new ConveyorError('unavailable', `cannot listen on ${host}:${port}: ${(error as Error).message}`, {
      cause: error,
      hint: listenHint((error as NodeJS.ErrnoException).code, place),
    })
  }
  return (server.server.address() as AddressInfo).port
}

/** What to do if the server cannot listen. */
function listenHint(code: string | undefined, { portOption, hostOption }: Place): string {
  if (code === 'EADDRINUSE') return `Set another ${portOption}, or stop the program that uses this one`
  if (code === 'EACCES') return `Set ${portOption} to 1024 or higher, or allow the user to bind lower ports`
  return `Set ${hostOption} to an address of this machine, or to 0.0.0.0 for all of them`
}

/** Where a browser on this machine finds a server that listens on `host`. */
export function shownHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost'
  return host.includes(':') ? `[${host}]` : host
}

/** Serves /metrics, /healthz and /readyz on `--metrics.port`, if that is set. @throws ConveyorError as listen */
export async function serveOperations(
  { metrics: { host, port } }: Config,
  options: OperationsOptions,
  io: SetupIo,
  releaser: Releaser,
): Promise<void> {
  if (port === null) return
  const server = releaser.add('metrics server', await createOperationsServer(options), (it) => it.close())
  const place = { portOption: '--metrics.port (METRICS_PORT)', hostOption: '--metrics.host (METRICS_HOST)' }
  const actual = await listen(server, { host, port, ...place })
  io.log(`metrics are on http://${shownHost(host)}:${actual}/metrics`)
}
