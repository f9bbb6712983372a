import { isWork } from '../core/timeline.ts'
import { splitReference } from '../registry/image-name.ts'

export { isDockerfileStep, isWork } from '../core/timeline.ts'

/** What BuildKit's names of build steps tell about them. */

/**
 * Files from a URL or git repository: `ADD https://...` is a step named after the whole instruction, in which the URL may
 * come later. Steps of named contexts count too: if two builds need the same source at the same time, BuildKit reports
 * one of their names to both.
 */
export const REMOTE =
  /^\[[^\]]*\] ADD .*(:\/\/|@[^@/\s]*:)|^(\[context [^\]]+\] )?"?(https?|git|ssh|git@[^:]+):|^\[internal\] load git source (?!\S+#([0-9a-f]{40}|[0-9a-f]{64})(:\S*)?$)/s

/** Names of steps that stand for an image. */
const IMAGES = [
  /^(?:\[[^\]]*\] )?FROM (\S+)/,
  /^docker-image:\/\/(\S+)/,
  /^\[context [^\]]+\] (?!https?:)(\S+)$/,
]

/** The only step of an image without layers. */
const METADATA = /^\[(?:\S+ )?internal\] load metadata for (\S+)$/

/** The images of FROM, COPY --from, syntax lines and named contexts, each once. */
export function imagesOf(names: string[]): { name: string; digest: string | null }[] {
  const images = new Map<string, { name: string; digest: string | null }>()
  const add = (named: string) => {
    const reference = splitReference(named)
    images.set(named, { name: `${reference.withoutDigest()}`, digest: reference.digest })
  }
  for (const step of names) {
    const named = IMAGES.map((form) => form.exec(step)?.[1]).find((name) => name !== undefined)
    if (named) add(named)
  }
  // Some of BuildKit's names leave out the tag `latest`.
  const plain = (image: string) => {
    const { name, tag } = splitReference(image)
    return tag === null || tag === 'latest' ? name : `${name}:${tag}`
  }
  const known = new Set([...images.keys()].map(plain))
  for (const step of names) {
    const named = METADATA.exec(step)?.[1]
    if (named && !known.has(plain(named))) add(named)
  }
  return [...images.values()]
}

/** Whether a RUN step has a cache mount, by the flags in its name. */
export function hasCacheMount(name: string): boolean {
  const [, flags = ''] = /^\[[^\]]*\] RUN ((?:--\S+\s+)*)/.exec(name) ?? []
  return /type=cache/i.test(flags)
}

/** The step that transfers the context. */
export const LOAD_CONTEXT = '[internal] load build context'

/**
 * Whether a step creates files, with the current time as their modification time. `LINK COPY --link` puts what such a COPY
 * has copied on top of what is there.
 */
export function isCommand(name: string): boolean {
  return isWork(name) && !/^\[[^\]]*\] (?:LINK )?(?:COPY|ADD|WORKDIR) /.test(name)
}
