import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Endpoint } from './endpoint.ts'
import { ControlService, type SolveRequest } from './gen/control.ts'
import type { StatusResponse } from './gen/status.ts'
import { GrpcConnection } from './grpc.ts'

export interface SolveIo {
  /** Told of the steps as they go; awaited, so that whoever writes them down sets the pace. */
  onStatus(status: StatusResponse): Promise<void>
  signal: AbortSignal
}

/** How long the last of a build's progress may come after its result, in milliseconds. */
const LATE_MS = 3000

/** What a request says where nothing is to be said. */
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
 * Has BuildKit do a build, on a connection of its own. Aborting the signal, as losing the connection, ends
 * the build there too.
 * @returns what the exporters answer
 * @throws GrpcError with BuildKit's message; ConveyorError `unavailable` when it cannot be reached
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
  // Of the two, the solve says best what went wrong.
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
