import type Dockerode from 'dockerode'
import type { SolveIo } from '../../buildkit/solve.ts'
import type { BuildInput } from '../builder.ts'
import { buildOverHttp } from './build-transport.ts'
import { buildOverGrpc } from './grpc-transport.ts'

/**
 * Sends a build to an engine, which builds into its own image store.
 * @param session id of the session that provides files, credentials and secrets
 * @returns the image's id, `sha256:...`
 * @throws errors for `buildError`
 */
export type BuildTransport = (
  docker: Dockerode,
  input: BuildInput,
  session: string,
  io: SolveIo,
) => Promise<string>

/**
 * The transport for a build: `/build`, which a proxy in front of the engine most likely allows, unless the build needs
 * BuildKit's own API.
 */
export function transportFor({ contexts }: BuildInput): BuildTransport {
  return Object.keys(contexts).length > 0 ? buildOverGrpc : buildOverHttp
}
