import { createHash } from 'node:crypto'
import { gunzipSync, zstdDecompressSync } from 'node:zlib'
import { MANIFEST_TYPES } from '../../support/images/pushed-image.ts'
import type { Bytes } from '../generate/model.ts'
import { readTar, type TarItem } from './tar-reader.ts'

/** A file or folder of an image. */
export interface ImageEntry {
  type: TarItem['type']
  mode: number
  uid: number
  gid: number
  /** Target of a symlink. */
  link: Bytes
  content: Buffer
}

/** An image as a container sees it. */
export interface Image {
  files: ReadonlyMap<Bytes, ImageEntry>
  config: Record<string, unknown>
}

/** The parts of a config that determine how an image behaves. */
const CONFIG = [
  'Env',
  'Cmd',
  'Entrypoint',
  'WorkingDir',
  'User',
  'ExposedPorts',
  'Volumes',
  'StopSignal',
  'Shell',
  'OnBuild',
]

/** Cache of the layers that most images start with. */
const known = new Map<string, TarItem[]>()
const MAX_KNOWN = 4

/** Applies layers according to the OCI image spec (layer.md). */
export function imageOf(layers: readonly TarItem[][], config: object): Image {
  const files = new Map<Bytes, ImageEntry>()
  for (const layer of layers) {
    // A whiteout applies to the layers below, wherever it is in its layer.
    for (const { path } of layer) removeAsSaid(files, path)
    for (const item of layer) add(files, item)
  }
  const all = config as Record<string, unknown>
  return { files, config: Object.fromEntries(CONFIG.map((key) => [key, all[key] ?? null])) }
}

function removeAsSaid(files: Map<Bytes, ImageEntry>, path: Bytes): void {
  const slash = path.lastIndexOf('/') + 1
  const name = path.slice(slash)
  if (!name.startsWith('.wh.')) return
  if (name === '.wh..wh..opq') removeBelow(files, path.slice(0, slash))
  else removeAll(files, path.slice(0, slash) + name.slice(4))
}

function add(files: Map<Bytes, ImageEntry>, item: TarItem): void {
  const { path, type, mode, uid, gid, link, content } = item
  if (path === '' || path.slice(path.lastIndexOf('/') + 1).startsWith('.wh.')) return
  const there = files.get(path)
  if (there && (there.type === 'directory') !== (type === 'directory')) removeAll(files, path)
  if (type === 'hardlink') {
    const target = files.get(link.replace(/^(\.?\/)+/, ''))
    if (!target) throw new Error(`a layer links ${path} to ${link}, which does not exist`)
    files.set(path, target)
  } else files.set(path, { type, mode, uid, gid, link, content })
}

function removeAll(files: Map<Bytes, ImageEntry>, path: Bytes): void {
  files.delete(path)
  removeBelow(files, `${path}/`)
}

function removeBelow(files: Map<Bytes, ImageEntry>, prefix: Bytes): void {
  for (const path of files.keys()) if (path.startsWith(prefix)) files.delete(path)
}

/** Reads an image from a registry without login. @param reference `host/repository:tag` or `@sha256:...` */
export async function registryImage(reference: string): Promise<Image> {
  const [, host = '', repository = '', tag = ''] =
    /^([^/]+)\/(.+?)[@:]((?:sha256:)?[^:/]+)$/.exec(reference) ?? []
  const get = async (what: string) => {
    const answer = await fetch(`http://${host}/v2/${repository}/${what}`, {
      headers: { accept: MANIFEST_TYPES },
    })
    if (!answer.ok) throw new Error(`${reference}: ${what}: ${answer.status}`)
    return Buffer.from(await answer.arrayBuffer())
  }
  const manifest = JSON.parse((await get(`manifests/${tag}`)).toString()) as {
    config: { digest: string }
    layers: { digest: string; mediaType: string }[]
  }
  const layer = async ({ digest, mediaType }: { digest: string; mediaType: string }) => {
    const before = known.get(digest)
    if (before) return before
    const items = [...readTar(unpacked(await get(`blobs/${digest}`), mediaType))]
    if (known.size < MAX_KNOWN) known.set(digest, items)
    return items
  }
  const [config, ...layers] = await Promise.all([
    get(`blobs/${manifest.config.digest}`),
    ...manifest.layers.map(layer),
  ])
  return imageOf(layers, (JSON.parse(config.toString()) as { config: object }).config)
}

function unpacked(bytes: Buffer, mediaType: string): Buffer {
  if (/[+.]gzip$/.test(mediaType)) return gunzipSync(bytes)
  return mediaType.endsWith('zstd') ? zstdDecompressSync(bytes) : bytes
}

/** Reads the output of `docker save`: a tar of the config, the layers as tars, and a list of them. */
export function savedImage(bytes: Buffer): Image {
  const files = new Map([...readTar(bytes)].map((item) => [item.path, item]))
  const read = (path: string): Buffer => {
    const item = files.get(path)
    if (item?.type === 'symlink') return read(new URL(item.link, `file:///${path}`).pathname.slice(1))
    if (!item) throw new Error(`docker save wrote no ${path}`)
    return item.content
  }
  const [manifest] = JSON.parse(read('manifest.json').toString()) as [{ Config: string; Layers: string[] }]
  const layer = (path: string) => {
    const content = read(path)
    const digest = createHash('sha256').update(content).digest('hex')
    const items = known.get(digest) ?? [...readTar(content)]
    if (known.size < MAX_KNOWN) known.set(digest, items)
    return items
  }
  const { config } = JSON.parse(read(manifest.Config).toString()) as { config: object }
  return imageOf(manifest.Layers.map(layer), config)
}
