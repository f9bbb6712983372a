import type { World } from './world.ts'

const MANIFESTS = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
].join(', ')

export interface Manifest {
  digest: string
  layers: { digest: string }[]
}

/** The manifest that a tag points to; null if there is no such tag. */
export async function manifestOf(world: World, image: string, tag: string): Promise<Manifest | null> {
  const answer = await fetch(`${world.registry.url}/v2/${image}/manifests/${tag}`, {
    headers: { accept: MANIFESTS },
  })
  const digest = answer.headers.get('docker-content-digest')
  const body = await answer.text()
  if (answer.status === 404) return null
  if (answer.status !== 200 || digest === null) throw new Error(`${image}:${tag}: ${answer.status} ${body}`)
  return { ...(JSON.parse(body) as Pick<Manifest, 'layers'>), digest }
}

/** The one digest that all the tags point at; null when one is missing or another. */
export async function tagged(world: World, image: string, tags: string[]): Promise<string | null> {
  const manifests = await Promise.all(tags.map((tag) => manifestOf(world, image, tag)))
  const digests = new Set(manifests.map((manifest) => manifest?.digest ?? null))
  return digests.size === 1 ? ([...digests][0] ?? null) : null
}
