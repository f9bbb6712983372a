import { createHmac } from 'node:crypto'

/**
 * The namespace of a repository's cache mounts (`RUN --mount=type=cache`), BUILDKIT_CACHE_MOUNT_NS of BuildKit's
 * frontend: it goes before every id, those that a Dockerfile names included. Nobody without the secret can tell it,
 * also not a frontend of a repository's own, which may name ids as it likes. It is a part of the keys of steps with
 * such mounts, so it has to be the same on every worker.
 * @param group repositories of one group share their mounts; null: it has its own
 */
export function cacheNamespace(secret: Uint8Array, repository: string, group: string | null): string {
  const whose = group === null ? `repository ${repository.toLowerCase()}` : `group ${group}`
  return createHmac('sha256', secret).update(whose).digest('hex')
}
