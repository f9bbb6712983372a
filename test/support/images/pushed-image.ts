import { parseReference } from '../../../src/lib/registry/image-name.ts'

/** The accepted media types: either kind of manifest. */
export const MANIFEST_TYPES =
  'application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json'

/** An image in a registry on this machine. */
export interface PushedImage {
  /** The digest of the manifest. */
  digest: string
  manifest: Manifest
  configDigest: string
  config: { created: string; config: { Labels?: Record<string, string> }; history: { created_by?: string }[] }
}

interface Manifest {
  mediaType: string
  config: { digest: string; mediaType: string }
  layers: { digest: string; mediaType: string; size: number }[]
}

/** An image with several manifests in a registry on this machine. */
export interface PushedIndex {
  digest: string
  manifests: { digest: string; platform: { os: string; architecture: string } }[]
  /** Reads a manifest or JSON blob of the same repository. */
  read<T>(kind: 'manifests' | 'blobs', digest: string): Promise<T>
}

/** Reads an index by its tag. */
export async function imageIndex(reference: string): Promise<PushedIndex> {
  const { host, path, tag } = parseReference(reference)
  const get = (what: string) =>
    fetch(`http://${host}/v2/${path}/${what}`, {
      headers: { accept: `application/vnd.oci.image.index.v1+json, ${MANIFEST_TYPES}` },
    })
  const answer = await get(`manifests/${tag}`)
  const { manifests } = (await answer.json()) as Pick<PushedIndex, 'manifests'>
  return {
    digest: answer.headers.get('docker-content-digest') ?? '',
    manifests,
    read: async <T>(kind: string, digest: string) => (await (await get(`${kind}/${digest}`)).json()) as T,
  }
}

/** Reads manifest and config of an image by its tag or digest. Throws with the status if the registry does not have it. */
export async function imageConfig(
  reference: string,
  login?: { username: string; password: string },
): Promise<PushedImage> {
  const { host, path, tag, digest } = parseReference(reference)
  const headers = {
    accept: MANIFEST_TYPES,
    ...(login ? { authorization: `Basic ${btoa(`${login.username}:${login.password}`)}` } : {}),
  }
  const get = async (what: string) => {
    const answer = await fetch(`http://${host}/v2/${path}/${what}`, { headers })
    if (!answer.ok) throw new Error(`${reference}: ${what}: ${answer.status}`)
    return answer
  }
  const answer = await get(`manifests/${digest ?? tag}`)
  const manifest = (await answer.json()) as Manifest
  const config = (await (await get(`blobs/${manifest.config.digest}`)).json()) as PushedImage['config']
  return {
    digest: answer.headers.get('docker-content-digest') ?? '',
    manifest,
    configDigest: manifest.config.digest,
    config,
  }
}
