/**
 * Conveyor as a library: everything that its commands are made of. Run a server or one build in your own
 * process, or talk to a server.
 */
export type { Artifact, Build, BuildRef, BuildRequest, BuildState, Ref } from './lib/build/build.ts'
export { buildLocal, type LocalOutcome } from './lib/build-local.ts'
export {
  type BuildOutcome,
  type ClientOptions,
  type FollowOptions,
  followBuild,
  parseTarget,
  requestOnly,
  type Target,
} from './lib/client.ts'
export { type Config, parseConfig } from './lib/config.ts'
export { ConveyorError, type ErrorKind } from './lib/errors.ts'
export { OPTIONS } from './lib/options.ts'
export { serve } from './lib/serve.ts'
export type { SetupIo } from './lib/setup.ts'
