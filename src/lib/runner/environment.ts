import type { RunInput } from './runner.ts'

/** The environment that every builder image gets, whatever runs its containers. */
export function runEnvironment(build: RunInput): Record<string, string> {
  return {
    REPOSITORY: build.repository.toLowerCase(),
    SHA: build.sha,
    BRANCH: build.branch ?? '',
    DRY: build.dry ? 'true' : '',
    CACHE: build.cache ? 'on' : 'off',
    BUILDKIT_CACHE_MOUNT_NS: build.cacheNamespace,
  }
}
