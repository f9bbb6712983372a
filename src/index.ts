/**
 * Conveyor as a library, with everything that its commands use: run a server or a single build in your own
 * process, or use a server's API.
 */

export { buildLocal, type LocalBuildOptions, type LocalOutcome } from './lib/app/build-local.ts'
export { serve } from './lib/app/serve.ts'
export type { SetupIo } from './lib/app/setup.ts'
export {
  type BuildOutcome,
  type BuildTarget,
  type ClientOptions,
  type FollowOptions,
  followBuild,
  parseTarget,
  requestOnly,
} from './lib/client/client.ts'
export { type Config, parseConfig } from './lib/config/config.ts'
export { OPTIONS } from './lib/config/options.ts'
export type { Artifact, Build, BuildRef, BuildRequest, BuildState, Ref } from './lib/core/build.ts'
export { ConveyorError, type ErrorKind } from './lib/core/errors.ts'
