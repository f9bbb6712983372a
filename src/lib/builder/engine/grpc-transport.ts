import type Dockerode from 'dockerode'
import { engineEndpoint } from '../../buildkit/engine-endpoint.ts'
import { type SolveIo, solve } from '../../buildkit/solve.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { BuildInput } from '../builder.ts'
import { engineStoreRequest } from '../buildkit/request.ts'

/** A BuildTransport: BuildKit's Control API, as used by `docker buildx build` with the engine's own BuildKit. */
export async function buildOverGrpc(
  docker: Dockerode,
  input: BuildInput,
  session: string,
  io: SolveIo,
): Promise<string> {
  // The engine's exporter returns the image id as the digest.
  const { 'containerimage.digest': id } = await solve(
    engineEndpoint(docker),
    engineStoreRequest(input, session),
    io,
  )
  if (!id) throw new ConveyorError('unavailable', 'the Docker engine finished the build without a result')
  return id
}
