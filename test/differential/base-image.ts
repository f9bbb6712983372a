import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { busyboxEntries, libraries } from '../support/base-images.ts'
import type { TestRegistry } from '../support/registry.ts'
import { tar } from '../support/tar.ts'
import type { BaseVersion } from './model.ts'

/** The base images of the differential test. */
export interface BaseImages {
  /** Has a tag name one of them from now on; resolves to the image's whole name. */
  point(tag: string, version: BaseVersion): Promise<string>
}

/**
 * Puts the base images of the differential test into a registry: busybox, but with dash as `sh`, whose
 * `[ a -nt b ]` sees nanoseconds. Their version is in /etc/base.
 */
export async function publishBases({ host, url }: TestRegistry): Promise<BaseImages> {
  const repository = `${url}/v2/base`
  const busybox = await busyboxEntries()
  const tools = await buffer(
    tar([
      ...busybox.filter(({ path }) => path !== 'bin/sh'),
      { path: 'bin/sh', file: '/bin/dash', mode: 0o755 },
      ...(await libraries('/bin/dash')).filter(({ path }) => !busybox.some((one) => one.path === path)),
    ]),
  )
  const publish = async (version: BaseVersion) => {
    const note = await buffer(tar([{ path: 'etc/base', content: `base ${version}\n` }]))
    const { manifest, blobs } = imageOfLayers([tools, note])
    for (const blob of blobs) await upload(`${repository}/blobs/uploads/`, blob)
    return manifest
  }
  const manifests = { 1: await publish(1), 2: await publish(2) }
  return {
    async point(tag, version) {
      await put(`${repository}/manifests/${tag}`, manifests[version], MANIFEST)
      return `${host}/base:${tag}`
    },
  }
}

const MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json'
const CONFIG = 'application/vnd.docker.container.image.v1+json'
const LAYER = 'application/vnd.docker.image.rootfs.diff.tar.gzip'

function imageOfLayers(layers: Buffer[]): { manifest: Buffer; blobs: Buffer[] } {
  const packed = layers.map((layer) => gzipSync(layer, { level: 1 }))
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Cmd: ['/bin/sh'],
      },
      rootfs: { type: 'layers', diff_ids: layers.map(digestOf) },
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
    layers: packed.map((layer) => described(layer, LAYER)),
  }
  return { manifest: Buffer.from(JSON.stringify(manifest)), blobs: [...packed, config] }
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
