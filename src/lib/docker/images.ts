import type { IncomingMessage } from 'node:http'
import type Dockerode from 'dockerode'
import { ConveyorError } from '../core/errors.ts'
import { ANONYMOUS, engineAuthFor } from '../registry/auth-config.ts'
import { splitReference } from '../registry/image-name.ts'
import type { CredentialStore } from '../registry/registry.ts'
import { engineDown } from './errors.ts'
import { jsonLines } from './json-lines.ts'

/** Whether the engine has an image with a tag of this name. */
export async function hasImage(docker: Dockerode, imageName: string): Promise<boolean> {
  return (await imagesNamed(docker, imageName)).some(({ RepoTags }) => named(RepoTags))
}

/** The id of the engine's image with this name, or null. */
export async function imageId(docker: Dockerode, name: string): Promise<string | null> {
  try {
    return (await docker.getImage(name).inspect()).Id
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return null
    throw engineDown(error)
  }
}

/**
 * Removes the engine's images under a name: of those with tags all but the newest, and those that were only
 * fetched.
 * @param inUse whether a reference has to stay
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
    .filter(({ RepoTags }) => !named(RepoTags))
    .flatMap(({ RepoDigests }) =>
      (RepoDigests ?? []).filter((name) => splitReference(name).name === imageName),
    )
  for (const reference of [...references.slice(keep), ...prefetched]) {
    if (!inUse(reference)) await docker.getImage(reference).remove().catch(goneOrBusy)
  }
}

/** Fetches an image; it has a digest but no tag then. */
export async function pullByDigest(
  docker: Dockerode,
  credentials: CredentialStore,
  reference: string,
  signal: AbortSignal,
): Promise<void> {
  const authconfig = (await engineAuthFor(credentials, reference)) ?? ANONYMOUS
  const stream = await docker.pull(reference, { authconfig, abortSignal: signal }).catch(engineDown)
  for await (const { error } of jsonLines<{ error?: string }>(stream as IncomingMessage)) {
    if (error !== undefined) throw new ConveyorError('unavailable', `fetching ${reference}: ${error}`)
  }
}

function imagesNamed(docker: Dockerode, imageName: string): Promise<Dockerode.ImageInfo[]> {
  return docker.listImages({ filters: { reference: [imageName] } }).catch(engineDown)
}

/** Whether an image has a name at all. Engines before 25 tell an image without one as `<none>:<none>`. */
function named(tags: string[] | null | undefined): boolean {
  return tags?.some((tag) => tag !== '<none>:<none>') ?? false
}

/** An image that is gone, or that a container uses, is left as it is. */
function goneOrBusy(error: { statusCode?: number }): void {
  if (error.statusCode !== 404 && error.statusCode !== 409) throw engineDown(error)
}
