import { createHmac } from 'node:crypto'
import { repositoryKey } from '../../core/repository-key.ts'

/**
 * The namespace of a repository's cache mounts (`RUN --mount=type=cache`), BUILDKIT_CACHE_MOUNT_NS of BuildKit's
 * frontend: a prefix of every id, including those that a Dockerfile names. It cannot be guessed without the secret, so
 * that even a repository's own frontend, which may choose any ids, cannot reach the mounts of others. It is part of the
 * cache keys of steps with such mounts, so it must be the same on every worker.
 * @param group repositories of one group share their mounts; null if the repository has its own
 */
export function cacheNamespace(secret: Uint8Array, repository: string, group: string | null): string {
  const whose = group === null ? `repository ${repositoryKey(repository)}` : `group ${group}`
  return createHmac('sha256', secret).update(whose).digest('hex')
}
