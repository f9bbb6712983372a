import { setTimeout as sleep } from 'node:timers/promises'
import { cacheSize } from '../buildkit/cache-limit.ts'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { listWorkers } from '../buildkit/workers.ts'
import type { Config } from '../config/config.ts'
import { broken, type Finding, ok, warning } from './check.ts'
import { shownSize } from './size.ts'

/** A BuildKit adds its whole cache up to answer: that is not waited for as long as for the rest. */
const SIZE_MS = 3000

/** Its version, what it builds for, and how large its cache is. */
export async function buildkit(
  endpoint: Endpoint,
  { packing, build }: Config,
  signal: AbortSignal,
): Promise<Finding> {
  const size = Promise.race([cacheSize(endpoint, signal), sleep(SIZE_MS, null, { signal })])
  size.catch(() => {}) // told below, unless the first question fails already
  const [worker] = await listWorkers(endpoint, signal)
  if (!worker) return broken('its BuildKit has nothing that builds', 'See the log of buildkitd')
  const { BuildkitVersion, platforms } = worker
  const names = platforms.map(({ OS, Architecture, Variant }) =>
    [OS, Architecture, Variant].filter(Boolean).join('/'),
  )
  const has = [...new Set(names)]
  const bytes = await size
  const cache = bytes === null ? `too large to be added up in ${SIZE_MS / 1000} s` : shownSize(bytes)
  const limit = packing.maxCacheBytes === null ? '' : ` of ${shownSize(packing.maxCacheBytes)}`
  // Many engines do not know the version of theirs.
  const version = BuildkitVersion?.version ? `BuildKit ${BuildkitVersion.version}` : 'BuildKit'
  const found = `${version} for ${has.join(', ')}, cache ${cache}${limit}`

  const wanted = new Set(build.platforms.map(({ value }) => value))
  const lacking = [...wanted].filter((platform) => !has.includes(platform))
  if (lacking.length === 0) return ok(found)
  return warning(
    `${found}; RUN steps for ${lacking.join(', ')} (--platform) cannot run there`,
    'Install QEMU there: docker run --privileged --rm tonistiigi/binfmt --install all',
  )
}
