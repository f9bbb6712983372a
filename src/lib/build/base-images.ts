import type { Builder, BuiltFrom } from '../builder/builder.ts'
import type { Registry } from '../registry/registry.ts'
import type { BaseImage } from './build.ts'

interface Parts {
  builder: Builder
  registry: Registry
}

/**
 * Digests of the images that a Dockerfile names outside of FROM (`COPY --from=IMAGE`, `--mount=from=IMAGE`),
 * as they are before the build: BuildKit does not tell to what it resolved these. Asked again after the
 * build, an equal answer means that the image did not move in between.
 */
export async function imagesNamedBySteps(
  dockerfile: string,
  parts: Parts,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const stages = new Set(
    [...dockerfile.matchAll(/^\s*FROM\s.*\sAS\s+(\S+)/gim)].map((match) => match[1]?.toLowerCase()),
  )
  const named = [...dockerfile.matchAll(/(?:--from=|[,=\s]from=)([^\s,]+)/g)].map((match) => match[1] ?? '')
  const images = named.filter((name) => !/^\d+$|\$/.test(name) && !stages.has(name.toLowerCase()))
  const found = await Promise.all(
    [...new Set(images)].map(
      async (name): Promise<[string, string | null]> => [
        fullName(name),
        await inRegistry(fullName(name), parts.registry, signal),
      ],
    ),
  )
  return new Map(found.filter((pair): pair is [string, string] => pair[1] !== null))
}

/**
 * The base images of a build that has just ended, or null when one of them, or something else that came
 * from outside, can not be pinned down: such a build is not reused.
 * @param before what imagesNamedBySteps found before the build
 */
export async function baseImages(
  from: BuiltFrom,
  dockerfile: string,
  before: Map<string, string>,
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseImage[] | null> {
  if (from.remoteFiles) return null
  const bases = await Promise.all(
    from.images.map(async ({ name, digest }): Promise<BaseImage | null> => {
      if (digest) {
        // `FROM name@sha256:...`: no registry can change what that means.
        return { name, digest, resolved: dockerfile.includes(digest) ? 'pinned' : 'registry' }
      }
      const local = await parts.builder.localImage(name)
      if (local) return { name, digest: local, resolved: 'engine' }
      const now = await inRegistry(name, parts.registry, signal)
      return now !== null && now === before.get(name) ? { name, digest: now, resolved: 'registry' } : null
    }),
  )
  return bases.every((base) => base !== null) ? bases : null
}

/** The first base image that is not what it was, or null when a build now would find them all unchanged. */
export async function changedBase(
  bases: BaseImage[],
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseImage | null> {
  const changed = await Promise.all(bases.map((base) => hasChanged(base, parts, signal)))
  return bases.find((_, index) => changed[index]) ?? null
}

async function hasChanged(
  { name, resolved, digest }: BaseImage,
  parts: Parts,
  signal: AbortSignal,
): Promise<boolean> {
  if (resolved === 'pinned') return false
  // The engine takes an image of its own first, whatever the registry has.
  const [local, remote] = await Promise.all([
    parts.builder.localImage(name),
    resolved === 'registry' ? inRegistry(name, parts.registry, signal) : null,
  ])
  return resolved === 'engine' ? local !== digest : local !== null || remote !== digest
}

/** Null also when the registry does not answer: the build, which needs it too, will say why. */
async function inRegistry(name: string, registry: Registry, signal: AbortSignal): Promise<string | null> {
  const tag = /:[\w.-]+$/.exec(name)?.[0] ?? ':latest'
  const image = name.endsWith(tag) ? name.slice(0, -tag.length) : name
  return registry.head(image, tag.slice(1), signal).catch(() => {
    signal.throwIfAborted()
    return null
  })
}

/** As BuildKit names images: `alpine` is `docker.io/library/alpine:latest`. */
function fullName(name: string): string {
  const [first = '', ...rest] = name.split('/')
  const hasHost = rest.length > 0 && /[.:]|^localhost$/.test(first)
  const path = hasHost ? name : rest.length > 0 ? `docker.io/${name}` : `docker.io/library/${name}`
  return /[:@][^/]+$/.test(path) ? path : `${path}:latest`
}
