import type Dockerode from 'dockerode'
import type { SolveIo } from '../../buildkit/solve.ts'
import type { BuildInput } from '../builder.ts'
import { buildOverHttp } from './build-transport.ts'
import { buildOverGrpc } from './grpc-transport.ts'

/**
 * A way to have an engine build into its own image store.
 * @param session id of the session that it gets files, logins and secrets from
 * @returns the image's id, `sha256:...`
 * @throws what `buildError` explains
 */
export type BuildTransport = (
  docker: Dockerode,
  input: BuildInput,
  session: string,
  io: SolveIo,
) => Promise<string>

/**
 * Which way a build goes: through `/build`, which a proxy before the engine lets through most likely, unless
 * it needs what only BuildKit's own API can be told.
 */
export function transportFor({ contexts }: BuildInput): BuildTransport {
  return Object.keys(contexts).length > 0 ? buildOverGrpc : buildOverHttp
}
