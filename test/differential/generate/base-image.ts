import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { busyboxEntries, libraries } from '../../support/images/base-images.ts'
import { tar } from '../../support/images/tar.ts'
import type { TestRegistry } from '../../support/registry/registry.ts'
import type { BaseVersion } from './model.ts'

/** The base images of the differential test. */
export interface BaseImages {
  /**
   * Makes a tag point at one of them from now on; resolves to the image's full name. Images of different tags differ,
   * so a layer on top of one is not found in the cache for another.
   */
  point(tag: string, version: BaseVersion): Promise<string>
}

/**
 * Puts the base images of the differential test into a registry: busybox, but with dash as `sh`, whose
 * `[ a -nt b ]` sees nanoseconds. Their version is in /etc/base.
 */
export async function publishBases({ host, url }: TestRegistry): Promise<BaseImages> {
  const repository = `${url}/v2/base`
  const busybox = await busyboxEntries()
  const tools = packed(
    await buffer(
      tar([
        ...busybox.filter(({ path }) => path !== 'bin/sh'),
        { path: 'bin/sh', file: '/bin/dash', mode: 0o755 },
        ...(await libraries('/bin/dash')).filter(({ path }) => !busybox.some((one) => one.path === path)),
      ]),
    ),
  )
  await upload(`${repository}/blobs/uploads/`, tools.bytes)
  const published = new Map<string, Buffer>()
  const publish = async (tag: string, version: BaseVersion) => {
    const files = { 'etc/base': `base ${version}\n`, 'etc/run': tag }
    const note = packed(
      await buffer(tar(Object.entries(files).map(([path, content]) => ({ path, content })))),
    )
    const { manifest, config } = imageOf([tools, note])
    for (const blob of [note.bytes, config]) await upload(`${repository}/blobs/uploads/`, blob)
    return manifest
  }
  return {
    async point(tag, version) {
      const key = `${tag} ${version}`
      const manifest = published.get(key) ?? (await publish(tag, version))
      published.set(key, manifest)
      await put(`${repository}/manifests/${tag}`, manifest, MANIFEST)
      return `${host}/base:${tag}`
    },
  }
}

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
const CONFIG = 'application/vnd.docker.container.image.v1+json'
const LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip'

interface Layer {
  /** Compressed with gzip. */
  bytes: Buffer
  /** Digest of the uncompressed bytes. */
  diffId: string
}

function packed(layer: Buffer): Layer {
  return { bytes: gzipSync(layer, { level: 1 }), diffId: digestOf(layer) }
}

function imageOf(layers: Layer[]): { manifest: Buffer; config: Buffer } {
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Cmd: ['/bin/sh'],
      },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map(() => ({ created: '2024-01-01T00:00:00Z', created_by: 'differential test' })),
    }),
  )
  const described = (bytes: Buffer, mediaType: string) => ({
    mediaType,
    size: bytes.length,
    digest: digestOf(bytes),
  })
  const manifest = {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: described(config, CONFIG),
    layers: layers.map(({ bytes }) => described(bytes, LAYER)),
  }
  return { manifest: Buffer.from(JSON.stringify(manifest)), config }
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

async function upload(url: string, blob: Buffer): Promise<void> {
  const begun = await fetch(url, { method: 'POST' })
  const place = new URL(begun.headers.get('location') ?? '', url)
  place.searchParams.set('digest', digestOf(blob))
  await put(place, blob, 'application/octet-stream')
}

async function put(url: string | URL, body: Buffer, type: string): Promise<void> {
  const answer = await fetch(url, {
    method: 'PUT',
    body: new Uint8Array(body),
    headers: { 'content-type': type },
  })
  if (answer.status !== 201) throw new Error(`PUT ${url}: ${answer.status} ${await answer.text()}`)
}
