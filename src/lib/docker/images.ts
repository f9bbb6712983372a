import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { ANONYMOUS, engineAuthFor } from '../registry/auth-config.ts'
import { splitReference } from '../registry/image-name.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { engineDown, statusOf } from './errors.ts'
import { jsonLines } from './json-lines.ts'
import { request } from './request.ts'

/** How long the engine may take to remove an image, in milliseconds: it deletes the files of its layers. */
const REMOVE_MS = 5 * 60_000

/** Whether the engine has a tagged image with this name. */
export async function hasImage(docker: Dockerode, imageName: string): Promise<boolean> {
  return (await imagesNamed(docker, imageName)).some(({ RepoTags }) => isTagged(RepoTags))
}

/** The id of the engine's image with this name; null if there is none. */
export async function imageId(docker: Dockerode, name: string): Promise<string | null> {
  try {
    return (await inspectImage(docker, name)).Id
  } catch (error) {
    if (statusOf(error) === 404) return null
    throw engineDown(error)
  }
}

/** The engine's image with this name. Rejects as `request` does. */
export function inspectImage(docker: Dockerode, name: string): Promise<Dockerode.ImageInspectInfo> {
  return request(docker, 'GET', `/images/${name}/json`)
}

/**
 * Removes the engine's images with a name: all but the newest tagged ones, and those that were only prefetched.
 * @param inUse whether to keep a reference regardless
 */
export async function tidyImages(
  docker: Dockerode,
  imageName: string,
  keep: number,
  inUse: (reference: string) => boolean,
): Promise<void> {
  const images = await imagesNamed(docker, imageName)
  const references = images
    .sort((a, b) => b.Created - a.Created)
    .flatMap(({ RepoTags }) => (RepoTags ?? []).filter((tag) => splitReference(tag).name === imageName))
  const prefetched = images
    .filter(({ RepoTags }) => !isTagged(RepoTags))
    .flatMap(({ RepoDigests }) =>
      (RepoDigests ?? []).filter((name) => splitReference(name).name === imageName),
    )
  for (const reference of [...references.slice(keep), ...prefetched]) {
    if (inUse(reference)) continue
    await request(docker, 'DELETE', `/images/${reference}`, { limitMs: REMOVE_MS }).catch(ignoreGoneOrBusy)
  }
}

/** Pulls an image by digest; it gets no tag. */
export async function pullByDigest(
  docker: Dockerode,
  credentials: CredentialStore,
  reference: string,
  signal: AbortSignal,
): Promise<void> {
  const authconfig = (await engineAuthFor(credentials, reference)) ?? ANONYMOUS
  const stream = await docker.pull(reference, { authconfig, abortSignal: signal }).catch(engineDown)
  for await (const { error } of jsonLines<{ error?: string }>(stream as IncomingMessage)) {
    if (error !== undefined) throw new ConveyorError('unavailable', `pulling ${reference} failed: ${error}`)
  }
}

function imagesNamed(docker: Dockerode, imageName: string): Promise<Dockerode.ImageInfo[]> {
  const query = { filters: { reference: [imageName] } }
  return request<Dockerode.ImageInfo[]>(docker, 'GET', '/images/json', { query }).catch(engineDown)
}

/** Whether an image has a tag. Engines before 25 list an untagged image as `<none>:<none>`. */
function isTagged(tags: string[] | null | undefined): boolean {
  return tags?.some((tag) => tag !== '<none>:<none>') ?? false
}

/** Images that are gone or used by a container are skipped. */
function ignoreGoneOrBusy(error: unknown): void {
  if (statusOf(error) !== 404 && statusOf(error) !== 409) throw engineDown(error)
}
