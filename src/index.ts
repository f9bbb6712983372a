/**
 * Conveyor as a library: everything that its commands are made of. Run a server or one build in your own
 * process, or talk to a server.
 */

export { buildLocal, type LocalOutcome } from './lib/app/build-local.ts'
export { serve } from './lib/app/serve.ts'
export type { SetupIo } from './lib/app/setup.ts'
export {
  type BuildOutcome,
  type ClientOptions,
  type FollowOptions,
  followBuild,
  parseTarget,
  requestOnly,
  type Target,
} from './lib/client/client.ts'
export { type Config, parseConfig } from './lib/config/config.ts'
export { OPTIONS } from './lib/config/options.ts'
export type { Artifact, Build, BuildRef, BuildRequest, BuildState, Ref } from './lib/core/build.ts'
export { ConveyorError, type ErrorKind } from './lib/core/errors.ts'
