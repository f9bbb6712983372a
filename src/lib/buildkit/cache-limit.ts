import type { Endpoint } from './endpoint.ts'
import { ControlService } from './gen/control.ts'
import { GrpcConnection } from './grpc.ts'

/** Minimum time between two prunes, in milliseconds. */
const PAUSE_MS = 60_000

/**
 * Keeps a BuildKit's cache within a limit: removes the least recently used records first, and none in use by a build.
 * Call the returned function after each build; it prunes once in a while only.
 * @param log called with failures, one line at a time
 */
export function cacheLimit(
  endpoint: Endpoint,
  maxBytes: number,
  log: (line: string) => void,
): (signal?: AbortSignal) => Promise<void> {
  let next = 0
  return async (signal) => {
    if (performance.now() < next) return
    next = performance.now() + PAUSE_MS
    try {
      await prune(endpoint, maxBytes, signal)
    } catch (error) {
      log(`cannot prune the build cache of ${endpoint.name}: ${(error as Error).message}`)
    }
  }
}

/** Prunes the cache to the limit. @returns the number of bytes freed */
async function prune(endpoint: Endpoint, maxBytes: number, signal?: AbortSignal): Promise<number> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  const limit = BigInt(maxBytes)
  const request = { filter: [], all: true, keepDuration: 0n, keepBytes: limit, maxUsedSpace: limit }
  let freed = 0n
  for await (const { Size } of connection.stream(ControlService.prune, request, signal)) freed += Size
  return Number(freed)
}

/** Size of the build cache, in bytes. */
export async function cacheSize(endpoint: Endpoint, signal?: AbortSignal): Promise<number> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  const { record } = await connection.unary(ControlService.diskUsage, { filter: [] }, signal)
  return Number(record.reduce((sum, { Size }) => sum + Size, 0n))
}
