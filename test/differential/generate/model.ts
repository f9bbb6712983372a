/** Bytes as text, one character (latin1) per byte: names and contents of a repository, which need not be UTF-8. */
export type Bytes = string

export type Entry =
  | { kind: 'file'; content: Bytes; executable: boolean }
  | { kind: 'link'; target: Bytes }
  /** A commit of another repository: one of MODULES, next to this one. */
  | { kind: 'submodule'; module: string; tree: Tree }

/** The contents of a commit, by path. No path goes through another one that is a file or a symlink. */
export type Tree = ReadonlyMap<Bytes, Entry>

/** The image that the base image's name stands for when a commit is built: images move in their registry. */
export type BaseVersion = 1 | 2

export interface Commit {
  tree: Tree
  base: BaseVersion
  /** All caches are emptied before it is built. */
  pruned?: boolean
}

/** The commits of one branch, built one after another. */
export interface History {
  commits: readonly Commit[]
}

/** Stands for the base image in a Dockerfile. */
export const BASE = '@BASE@'
/** Stands for a word that is unique to each run, so that no layer or cache mount of another run is used. */
export const RUN = '@RUN@'

/** Stands for the name of the repository, after which those of its submodules are named. */
export const NAME = '@NAME@'
/** Stands for the folder of the repositories, as the path of a URL. */
export const FOLDER = '@FOLDER@'

/** Repositories of submodules, by the end of their name. */
export const MODULES = ['lib', 'Lib', 'util'] as const

/** Objects in Git LFS that every repository has. */
export const LFS_OBJECTS: readonly Bytes[] = [
  'object\n',
  'one\r\ntwo\n$Id$\n',
  '\xff\0\x01',
  'large '.repeat(2_000),
]

/** Text as its UTF-8 bytes. */
export function utf8(text: string): Bytes {
  return Buffer.from(text).toString('latin1')
}

export function toBuffer(bytes: Bytes): Buffer {
  return Buffer.from(bytes, 'latin1')
}

/** Bytes in readable form: as UTF-8, with everything else escaped. */
export function shown(bytes: Bytes): string {
  const buffer = toBuffer(bytes)
  const text = buffer.toString('utf8')
  return JSON.stringify(Buffer.from(text).equals(buffer) ? text : bytes.replace(/[^\x20-\x7e]/g, escaped))
}

function escaped(char: string): string {
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`
}

/** Whether two trees have the same entry at a path. */
export function same(one: Entry | undefined, other: Entry | undefined): boolean {
  return keyOf(one) === keyOf(other)
}

/** A text that identifies an entry, or anything else with trees in it. */
export function keyOf(value: unknown): string {
  return JSON.stringify(value, (_, one) => (one instanceof Map ? [...one] : one)) ?? ''
}

/** A tree with the files of its submodules in their place, as in a clone. */
export function expanded(tree: Tree): Tree {
  const all = new Map<Bytes, Entry>()
  for (const [path, entry] of tree) {
    if (entry.kind !== 'submodule') all.set(path, entry)
    else for (const [inside, one] of expanded(entry.tree)) all.set(`${path}/${inside}`, one)
  }
  return all
}

/** Whether a tree has room for a path: nothing is at it, above it or below it. */
export function hasRoom(tree: Tree, path: Bytes): boolean {
  for (const other of tree.keys()) {
    if (other === path || other.startsWith(`${path}/`) || path.startsWith(`${other}/`)) return false
  }
  return true
}

/** The directories of a tree, without its root. */
export function directories(tree: Tree): Bytes[] {
  const found = new Set<Bytes>()
  for (const path of tree.keys()) {
    for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) found.add(path.slice(0, at))
  }
  return [...found]
}
