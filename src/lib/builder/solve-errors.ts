import { GrpcCode, GrpcError } from '../buildkit/grpc.ts'
import { ConveyorError } from '../errors.ts'

/** The step in which images are exported and pushed, as BuildKit names it. */
const EXPORT = 'exporting to image'
/** What can go wrong in it before the registry is asked. */
const DISK = /no space left on device|read-only file system|input\/output error/i
/** How registries that were made before zstd or OCI refuse a manifest, or its layers. */
const PACKING =
  /manifest[ _]invalid|unsupported[^"]*media ?type|media ?type[^"]*(?:not supported|unsupported|invalid|unknown)|unknown (?:manifest|media)|invalid (?:manifest|media ?type)|415 Unsupported|manifests\/\S+: 400/i

/** Whether it was the push that failed, of a build and push in one. */
export function isPushFailure(error: unknown, failed: { name: string } | undefined): boolean {
  return failed?.name === EXPORT && !DISK.test((error as Error).message)
}

/** Whether a registry refused a push for how the layers are packed, or what its manifest is. */
export function isRefusedPacking(error: unknown): boolean {
  return PACKING.test((error as Error).message)
}

/**
 * A connection that ended is no result of the build.
 * @param name of the BuildKit, for people
 */
export function lost(error: unknown, name: string): unknown {
  if (!(error instanceof GrpcError && error.code === GrpcCode.unavailable)) return error
  return new ConveyorError('unavailable', `${name} went away: ${error.message}`, { cause: error })
}
