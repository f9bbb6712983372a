import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { NO_SETTINGS } from '../../src/lib/core/settings.ts'
import type { LogStore } from '../../src/lib/logs/log-store.ts'
import type { BuildParts } from '../../src/lib/pipeline/parts.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { memoryContext } from '../../test/support/context/memory-context.ts'
import { holdOf } from './mix.ts'

const nothing = async () => {}

/** The size of a log, and the number of writes that are spread over the build. */
const LOG = { pieces: 20, bytes: 20_000 }
/** How long other services take to answer. */
const REGISTRY_MS = 10
const GITHUB_MS = 100

/**
 * What a build runs on where no image is built: everything takes the way of a real build, and the builder only
 * takes its time, which is in the commit id. All content is new, so nothing is reused, and each build makes every
 * query that a build can make.
 */
export function simulatedParts(store: BuildStore): BuildParts {
  return {
    store,
    source: {
      fetch: async (repository, sha) => ({
        ...{ repository, url: '', sha, tree: createHash('sha1').update(sha).digest('hex') },
        ...{ committedAt: '2026-01-01T00:00:00Z', info: { title: '', author: '', login: null }, gitDir: '' },
      }),
      context: async ({ sha }) => memoryContext({ Dockerfile: `FROM scratch\nLABEL sha=${sha}\n` }),
      earlier: async () => null,
      changes: async () => [{ path: 'Dockerfile', kind: 'changed' }],
    },
    builder: {
      describe: async () => 'simulated',
      platform: async () => null,
      cacheTag: async () => null,
      isWarm: async () => true,
      prefetch: async () => {},
      prefetchBase: async () => {},
      async build({ reference }, { log, signal }) {
        const sha = reference.slice(reference.lastIndexOf(':') + 1)
        for (let i = 0; i < LOG.pieces; i++) {
          await log.write('#'.repeat(LOG.bytes / LOG.pieces))
          await sleep(holdOf(sha) / LOG.pieces, undefined, { signal })
        }
        const digest = `sha256:${createHash('sha256').update(sha).digest('hex')}`
        return {
          ...{ imageId: digest, digest, pushMs: 0 },
          ...{ steps: { total: 4, cached: 3 }, transfer: { files: 1, bytes: 100 } },
          ...{ from: { images: [], remoteFiles: false }, platform: null },
        }
      },
      saveCache() {},
      tidy: async () => {},
      localImage: async () => null,
      close: async () => {},
    },
    registry: {
      head: async () => null,
      async manifest(_image, digest) {
        await sleep(REGISTRY_MS)
        return { digest, mediaType: 'application/json', bytes: new Uint8Array() }
      },
      putManifest: () => sleep(REGISTRY_MS),
      deleteTag: async () => true,
    },
    history: { head: async () => null, contains: async () => false },
    names: { image: (repository) => `registry.example/${repository}`, tag: ({ name }) => name },
    sourceUrl: (repository) => `https://github.com/${repository}`,
    secrets: async () => ({}),
    proxies: async () => ({ variables: {}, secrets: [] }),
    cacheNamespace: (repository) => repository,
    latest: 'always',
    dry: false,
    settings: () => NO_SETTINGS,
  }
}

/** GitHub's commit statuses. */
export const simulatedForge = { setStatus: () => sleep(GITHUB_MS) }

/** Logs that are not stored in the database. Reports the errors of builds. */
export function logsElsewhere(problem: (line: string) => void): LogStore {
  const write = async (chunk: Uint8Array | string) => {
    const [error] = /^error: .*/m.exec(Buffer.from(chunk as string).toString()) ?? []
    if (error) problem(error)
  }
  return {
    open: async () => ({ write, flush: nothing, close: nothing, end: nothing }),
    async *read() {},
    close: async () => {},
  }
}
