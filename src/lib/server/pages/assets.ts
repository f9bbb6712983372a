import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import type { FastifyInstance } from 'fastify'
import { favicon, ICON_STATES, type IconState } from './icons.ts'

/** A file that pages load. */
interface Asset {
  body: Buffer
  type: string
  etag: string
}

/** Files by their names with a hash, `style.0123abcd.css`; and these names by those in the source, `style.css`. */
interface Assets {
  files: Map<string, Asset>
  names: Map<string, string>
  /** The modules that each module imports, by their names in the source. */
  imports: Map<string, string[]>
}

const TYPES: Record<string, string> = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
}

let loaded: Assets | undefined

/** Read once, when the first server starts: some ten small files. */
function assets(): Assets {
  if (loaded) return loaded
  const folder = new URL('./assets/', import.meta.url)
  const sources = new Map<string, string>()
  for (const name of readdirSync(folder)) {
    if (/^[a-z-]+\.(css|js)$/.test(name)) sources.set(name, readFileSync(new URL(name, folder), 'utf8'))
  }
  for (const state of ICON_STATES) sources.set(`favicon-${state}.svg`, favicon(state))

  const files = new Map<string, Asset>()
  const names = new Map<string, string>()
  const imports = new Map<string, string[]>()
  const add = (name: string): string => {
    const known = names.get(name)
    if (known !== undefined) return known
    const source = sources.get(name)
    if (source === undefined) throw new Error(`there is no asset ${name}`)
    // A module imports others by the names that they are served under. There are no cycles.
    const imported: string[] = []
    const text = compact(source, name).replace(/(?<=\bfrom '\.\/)[a-z-]+\.js(?=')/g, (module) => {
      imported.push(module)
      return add(module)
    })
    imports.set(name, imported)
    const hash = createHash('sha256').update(text).digest('hex').slice(0, 10)
    const [stem = '', extension = ''] = name.split('.')
    const hashed = `${stem}.${hash}.${extension}`
    files.set(hashed, { body: Buffer.from(text), type: TYPES[extension] ?? '', etag: `"${hash}"` })
    names.set(name, hashed)
    return hashed
  }
  for (const name of sources.keys()) add(name)
  loaded = { files, names, imports }
  return loaded
}

/** Without lines that are only comments, and without the indentation of style sheets: nothing that changes what it does. */
function compact(source: string, name: string): string {
  const text = source.replace(/^[ \t]*(\/\/.*|\/\*(?:(?!\*\/)[\s\S])*\*\/)\n/gm, '')
  return name.endsWith('.css') ? text.replace(/^\s+/gm, '') : text
}

/** Path of an asset below the base path, such as `/assets/style.0123456789.css`. @throws Error if there is none */
export function assetPath(name: string): string {
  const hashed = assets().names.get(name)
  if (hashed === undefined) throw new Error(`there is no asset ${name}`)
  return `/assets/${hashed}`
}

/** The modules that these import, and those that they import in turn, without themselves. */
export function importedBy(modules: readonly string[]): string[] {
  const all = new Set(modules)
  // What is added is visited, too.
  for (const name of all) for (const imported of assets().imports.get(name) ?? []) all.add(imported)
  return [...all].slice(modules.length)
}

/** Path of the icon that a browser tab shows. */
export function faviconPath(state: IconState): string {
  return assetPath(`favicon-${state}.svg`)
}

/** GET /assets/NAME.HASH.EXTENSION. They hold nothing secret, and error pages need them before a login. */
export async function assetsRoute(app: FastifyInstance): Promise<void> {
  const { files } = assets()
  app.get('/assets/:file', { config: { public: true }, schema: { hide: true } }, async (request, reply) => {
    const asset = files.get((request.params as { file: string }).file)
    if (!asset) return reply.callNotFound()
    reply.headers({ etag: asset.etag, 'cache-control': 'public, max-age=31536000, immutable' })
    if (request.headers['if-none-match'] === asset.etag) return reply.code(304).send()
    return reply.type(asset.type).send(asset.body)
  })
}
