import type { Builder, BuiltFrom } from '../builder/builder.ts'
import type { Registry } from '../registry/registry.ts'
import type { BaseImage } from './build.ts'
import type { BuildSettings } from './recipe.ts'

interface Parts {
  builder: Builder
  registry: Registry
}

/** Where a build names what it takes from outside. */
interface Naming {
  /** The text of the Dockerfile. */
  dockerfile: string
  contexts: BuildSettings['contexts']
}

/**
 * Digests of the images that are named outside of FROM (`COPY --from=IMAGE`, `--mount=from=IMAGE`, named
 * contexts), as they are before the build: BuildKit does not tell to what it resolved these. Asked again
 * after the build, an equal answer means that the image did not move in between.
 */
export async function imagesNamedOutsideOfFrom(
  { dockerfile, contexts }: Naming,
  parts: Parts,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const stages = new Set(
    [...dockerfile.matchAll(/^\s*FROM\s.*\sAS\s+(\S+)/gim)].map((match) => match[1]?.toLowerCase()),
  )
  const named = [...dockerfile.matchAll(/(?:--from=|[,=\s]from=)([^\s,]+)/g)].map((match) => match[1] ?? '')
  const images = named
    .filter(
      (name) => !/^\d+$|\$/.test(name) && !stages.has(name.toLowerCase()) && !Object.hasOwn(contexts, name),
    )
    .map(fullName)
  const moving = (contextImages(contexts) ?? []).filter(({ digest }) => !digest).map(({ name }) => name)
  const found = await Promise.all(
    [...new Set([...images, ...moving])].map(
      async (name): Promise<[string, string | null]> => [
        name,
        await inRegistry(name, parts.registry, signal),
      ],
    ),
  )
  return new Map(found.filter((pair): pair is [string, string] => pair[1] !== null))
}

/**
 * The base images of a build that has just ended, or null when one of them, or something else that came
 * from outside, can not be pinned down: such a build is not reused.
 * @param before what imagesNamedOutsideOfFrom found before the build
 */
export async function baseImages(
  from: BuiltFrom,
  naming: Naming,
  before: Map<string, string>,
  parts: Parts,
  signal: AbortSignal,
): Promise<BaseImage[] | null> {
  // All contexts count: that a Dockerfile uses one is not told for certain.
  const named = contextImages(naming.contexts)
  if (from.remoteFiles || !named) return null
  const all = [...from.images, ...named].map(({ name, digest }) => ({ name: fullName(name), digest }))
  const images = new Map(all.map((one) => [`${one.name}@${one.digest}`, one]))
  const bases = await Promise.all(
    [...images.values()].map(async ({ name, digest }): Promise<BaseImage | null> => {
      if (digest) {
        return { name, digest, resolved: isPinned(name, digest, naming) ? 'pinned' : 'registry' }
      }
      const local = await parts.builder.localImage(name)
      if (local) {
        // Of what a context stands for, BuildKit takes the engine's image or the registry's.
        return named.some((one) => one.name === name) ? null : { name, digest: local, resolved: 'engine' }
      }
      const now = await inRegistry(name, parts.registry, signal)
      return now !== null && now === before.get(name) ? { name, digest: now, resolved: 'registry' } : null
    }),
  )
  return bases.every((base) => base !== null) ? bases : null
}

/** The images that named contexts stand for; null when one stands for what may change unseen: a URL, a branch. */
function contextImages(contexts: BuildSettings['contexts']): BuiltFrom['images'] | null {
  const moving = Object.values(contexts).filter((from) => !COMMIT.test(from))
  const images = moving.map((from) => {
    const [name = '', digest = null] = /^docker-image:\/\/(.+)/.exec(from)?.[1]?.split('@') ?? []
    return { name: name && fullName(name), digest }
  })
  return images.every(({ name }) => name !== '') ? images : null
}

/** Without .git in it, a URL is a file's to BuildKit, which pays no heed to what follows `#`. */
const COMMIT = /^https?:\/\/[^?#]+\.git#([0-9a-f]{40}|[0-9a-f]{64})(:.*)?$/

/** Whether an image is named by its digest (`FROM name@sha256:...`), so that no registry can change what it is. */
function isPinned(name: string, digest: string, { dockerfile, contexts }: Naming): boolean {
  const from = dockerfile.replace(/\\\r?\n/g, ' ').matchAll(/^\s*FROM\s+(?:--\S+\s+)*(\S+)/gim)
  const names = [...from].map((match) => fullName(match[1] ?? ''))
  // By its tag, too.
  if (names.includes(name)) return false
  if (dockerfile.includes(digest)) return true
  const isOfContext = Object.values(contexts).some((context) => context.endsWith(`@${digest}`))
  return isOfContext && !names.some((one) => one.includes('$'))
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
export async function inRegistry(
  name: string,
  registry: Registry,
  signal: AbortSignal,
): Promise<string | null> {
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
