import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { busyboxEntries, libraries } from '../support/base-images.ts'
import type { TestRegistry } from '../support/registry.ts'
import { tar } from '../support/tar.ts'

/**
 * Puts the base image of the differential test into a registry: busybox, but with dash as `sh`, whose
 * `[ a -nt b ]` sees nanoseconds.
 * @returns its name
 */
export async function publishBase({ host, url }: TestRegistry): Promise<string> {
  const busybox = await busyboxEntries()
  const entries = [
    ...busybox.filter(({ path }) => path !== 'bin/sh'),
    { path: 'bin/sh', file: '/bin/dash', mode: 0o755 },
    ...(await libraries('/bin/dash')).filter(({ path }) => !busybox.some((one) => one.path === path)),
  ]
  const layer = await buffer(tar(entries))
  const packed = gzipSync(layer, { level: 1 })
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        Cmd: ['/bin/sh'],
      },
      rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
      history: [{ created: '2024-01-01T00:00:00Z', created_by: 'differential test' }],
    }),
  )
  const media = (kind: string) => `application/vnd.docker.${kind}`
  const described = (bytes: Buffer, mediaType: string) => ({
    mediaType,
    size: bytes.length,
    digest: digestOf(bytes),
  })
  const manifest = {
    schemaVersion: 2,
    mediaType: media('distribution.manifest.v2+json'),
    config: described(config, media('container.image.v1+json')),
    layers: [described(packed, media('image.rootfs.diff.tar.gzip'))],
  }
  for (const blob of [packed, config]) await upload(`${url}/v2/base/blobs/uploads/`, blob)
  await put(`${url}/v2/base/manifests/1`, Buffer.from(JSON.stringify(manifest)), manifest.mediaType)
  return `${host}/base:1`
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
