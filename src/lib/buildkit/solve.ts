import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Endpoint } from './endpoint.ts'
import { ControlService, type SolveRequest } from './gen/control.ts'
import type { StatusResponse } from './gen/status.ts'
import { GrpcConnection } from './grpc.ts'

export interface SolveIo {
  /** Called with the progress of steps; awaited, for backpressure. */
  onStatus(status: StatusResponse): Promise<void>
  signal: AbortSignal
}

/** How long to wait for a build's last progress after its result, in milliseconds. */
const LATE_MS = 3000

/** Default values of a request. */
export const EMPTY_SOLVE: SolveRequest = {
  Ref: '',
  Exporter: '',
  ExporterAttrs: {},
  Session: '',
  Frontend: 'dockerfile.v0',
  FrontendAttrs: {},
  Cache: undefined,
  Entitlements: [],
  Internal: false,
}

/**
 * Runs a build in BuildKit, on its own connection. Aborting the signal, like losing the connection, cancels the build.
 * @returns the exporters' response
 * @throws GrpcError with BuildKit's message; ConveyorError `unavailable` if it cannot be reached
 */
export async function solve(
  endpoint: Endpoint,
  request: Omit<SolveRequest, 'Ref'>,
  { onStatus, signal }: SolveIo,
): Promise<Record<string, string>> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  const ref = randomUUID()
  const followed = new AbortController()
  const follow = async () => {
    const until = AbortSignal.any([signal, followed.signal])
    for await (const status of connection.stream(ControlService.status, { Ref: ref }, until)) {
      await onStatus(status)
    }
  }
  const solving = connection.unary(ControlService.solve, { ...request, Ref: ref }, signal)
  const following = follow()
  // If both fail, the error of the solve is the more specific one.
  following.catch(() => {})
  try {
    const { ExporterResponse } = await solving
    return ExporterResponse
  } finally {
    const late = sleep(LATE_MS, undefined, { signal: followed.signal }).catch(() => {})
    await Promise.race([following.catch(() => {}), late])
    followed.abort()
  }
}
