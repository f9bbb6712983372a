import type { Endpoint } from './endpoint.ts'
import { ControlService } from './gen/control.ts'
import { GrpcConnection } from './grpc.ts'

/** The build cache may be over its limit for this long, in milliseconds. */
const PAUSE_MS = 60_000

/**
 * Keeps a BuildKit's cache within a limit: what was not used for longest goes first, and nothing that a build
 * is using. To be called after a build; looks now and then only, in the background.
 * @param log told what went wrong, one line at a time
 */
export function cacheLimit(
  endpoint: Endpoint,
  maxBytes: number,
  log: (line: string) => void,
): () => Promise<void> {
  let next = 0
  return async () => {
    if (performance.now() < next) return
    next = performance.now() + PAUSE_MS
    try {
      await prune(endpoint, maxBytes)
    } catch (error) {
      log(`the build cache of ${endpoint.name} was not cut to its limit: ${(error as Error).message}`)
    }
  }
}

/** Removes what is over the limit. @returns how many bytes that freed */
async function prune(endpoint: Endpoint, maxBytes: number): Promise<number> {
  await using connection = new GrpcConnection(await endpoint.connect())
  const limit = BigInt(maxBytes)
  const request = { filter: [], all: true, keepDuration: 0n, keepBytes: limit, maxUsedSpace: limit }
  let freed = 0n
  for await (const { Size } of connection.stream(ControlService.prune, request)) freed += Size
  return Number(freed)
}

/** Bytes that the build cache takes. */
export async function cacheSize(endpoint: Endpoint, signal?: AbortSignal): Promise<number> {
  await using connection = new GrpcConnection(await endpoint.connect(signal))
  const { record } = await connection.unary(ControlService.diskUsage, { filter: [] }, signal)
  return Number(record.reduce((sum, { Size }) => sum + Size, 0n))
}
