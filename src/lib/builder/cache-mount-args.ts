import type { BuildInput } from './builder.ts'

/**
 * The build argument that sets a build's cache mount namespace. BuildKit supports it since v0.7 (Docker 20.10 has v0.8),
 * and keeps it out of images that do not declare the argument:
 * https://github.com/moby/buildkit/blob/v0.8.3/frontend/dockerfile/builder/build.go
 * `--build.arg` takes precedence.
 */
export function cacheMountArgs({
  cacheNamespace,
}: Pick<BuildInput, 'cacheNamespace'>): Record<string, string> {
  return cacheNamespace === null ? {} : { BUILDKIT_CACHE_MOUNT_NS: cacheNamespace }
}
