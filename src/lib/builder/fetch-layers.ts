import type { Endpoint } from '../buildkit/endpoint.ts'
import { openSession } from '../buildkit/session.ts'
import { solve } from '../buildkit/solve.ts'
import type { Credentials } from '../registry/registry.ts'
import { onTopOf } from './layers-of.ts'
import { layersRequest, type Target } from './solve-request.ts'

/**
 * Has BuildKit fetch and unpack the layers of an image, for whatever is built on them next.
 * @param reference by tag or by digest
 * @throws GrpcError with BuildKit's message; ConveyorError `unavailable` when it can not be reached
 */
export async function fetchLayers(
  endpoint: Endpoint,
  credentials: Credentials,
  reference: string,
  target: Omit<Target, 'session'>,
  signal: AbortSignal,
): Promise<void> {
  const input = onTopOf(reference)
  const { context, cacheKey: sharedKey, secrets, ssh } = input
  await using session = await openSession(endpoint, { context, sharedKey, credentials, secrets, ssh })
  const request = layersRequest(input, { ...target, session: session.id })
  await solve(endpoint, request, { signal, onStatus: async () => {} })
}
