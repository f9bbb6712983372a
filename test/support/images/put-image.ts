import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { gzipSync } from 'node:zlib'
import { pushBlob } from '../registry/doubles.ts'
import { type TarEntry, tar } from './tar.ts'

const DOCKER = 'application/vnd.docker'

/**
 * Puts an image of one layer under the tag `1` into an open registry. The image is always new, because BuildKit keeps
 * what it has pulled.
 * @param files its contents, in addition to a small file
 * @param Env its environment variables, `NAME=VALUE`
 * @returns the digest of its layer
 */
export async function putImage(
  host: string,
  path: string,
  files: TarEntry[] = [],
  Env: string[] = [],
): Promise<string> {
  const unique = {
    path: `made-for-${path.replaceAll('/', '-')}`,
    content: `${process.pid} ${performance.now()}`,
  }
  const layer = await buffer(tar([unique, ...files]))
  const diffId = `sha256:${createHash('sha256').update(layer).digest('hex')}`
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Env },
    rootfs: { type: 'layers', diff_ids: [diffId] },
  }
  const registry = `http://${host}`
  const blob = (mediaType: string, bytes: Buffer) =>
    pushBlob(registry, path, bytes).then((pushed) => ({ mediaType: `${DOCKER}.${mediaType}`, ...pushed }))
  const packed = await blob('image.rootfs.diff.tar.gzip', gzipSync(layer))
  const manifest = {
    schemaVersion: 2,
    mediaType: `${DOCKER}.distribution.manifest.v2+json`,
    config: await blob('container.image.v1+json', Buffer.from(JSON.stringify(config))),
    layers: [packed],
  }
  const answer = await fetch(`${registry}/v2/${path}/manifests/1`, {
    method: 'PUT',
    headers: { 'content-type': manifest.mediaType },
    body: JSON.stringify(manifest),
  })
  if (answer.status !== 201) throw new Error(`${host}/${path}: HTTP ${answer.status}`)
  return packed.digest
}
