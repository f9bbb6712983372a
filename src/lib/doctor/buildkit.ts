import { setTimeout as sleep } from 'node:timers/promises'
import { cacheSize } from '../buildkit/cache-limit.ts'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { listWorkers, platformName } from '../buildkit/workers.ts'
import type { Config } from '../config/config.ts'
import { broken, type Finding, ok, warning } from './check.ts'
import { formatSize } from './size.ts'

/** BuildKit has to add up its whole cache, so this times out sooner than other checks. */
const SIZE_TIMEOUT_MS = 3000

/** The version of a BuildKit, its platforms, and the size of its cache. */
export async function buildkit(
  endpoint: Endpoint,
  { packing, build }: Config,
  signal: AbortSignal,
): Promise<Finding> {
  const size = Promise.race([cacheSize(endpoint, signal), sleep(SIZE_TIMEOUT_MS, null, { signal })])
  size.catch(() => {}) // handled below, unless listWorkers fails first
  const [worker] = await listWorkers(endpoint, signal)
  if (!worker) return broken('BuildKit has no workers', 'See the log of buildkitd')
  const { BuildkitVersion, platforms } = worker
  const has = [...new Set(platforms.map(platformName))]
  const bytes = await size
  const cache = bytes === null ? `size not known within ${SIZE_TIMEOUT_MS / 1000} s` : formatSize(bytes)
  const limit = packing.maxCacheBytes === null ? '' : ` of ${formatSize(packing.maxCacheBytes)}`
  // Many engines do not report the version of their BuildKit.
  const version = BuildkitVersion?.version ? `BuildKit ${BuildkitVersion.version}` : 'BuildKit'
  const found = `${version} for ${has.join(', ')}, cache ${cache}${limit}`

  const wanted = new Set(build.platforms.map(({ value }) => value))
  const lacking = [...wanted].filter((platform) => !has.includes(platform))
  if (lacking.length === 0) return ok(found)
  return warning(
    `${found}; cannot run RUN steps for ${lacking.join(', ')} (--platform)`,
    'Install QEMU on it: docker run --privileged --rm tonistiigi/binfmt --install all',
  )
}
