import type { BuildInput } from './builder.ts'

/**
 * What tells BuildKit's frontend a build's namespace of cache mounts, by name as a build argument. Every BuildKit
 * from v0.7 on knows it (Docker 20.10 has v0.8), and puts it into no image that does not declare the argument:
 * https://github.com/moby/buildkit/blob/v0.8.3/frontend/dockerfile/builder/build.go
 * What is set by `--build.arg` goes before it.
 */
export function cacheMountArgs({
  cacheNamespace,
}: Pick<BuildInput, 'cacheNamespace'>): Record<string, string> {
  return cacheNamespace === null ? {} : { BUILDKIT_CACHE_MOUNT_NS: cacheNamespace }
}
