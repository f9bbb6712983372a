/**
 * Bytes as text, one character (latin1) a byte: names and contents of a repository, which need not be UTF-8.
 */
export type Bytes = string

export type Entry = { kind: 'file'; content: Bytes; executable: boolean } | { kind: 'link'; target: Bytes }

/** What a commit holds, by path. No path goes through another that is a file or a symlink. */
export type Tree = ReadonlyMap<Bytes, Entry>

/** What the name of the base image stands for when a commit is built: images move in their registry. */
export type BaseVersion = 1 | 2

export interface Commit {
  tree: Tree
  base: BaseVersion
  /** Before it is built, all caches are emptied. */
  pruned?: boolean
}

/** The commits of one branch, each built after the one before it. */
export interface History {
  commits: readonly Commit[]
}

/** Stands for the base image in a Dockerfile. */
export const BASE = '@BASE@'
/** Stands for a word that no other run has, so that no layer, and no cache mount, of another one is met. */
export const RUN = '@RUN@'

/** Text as its UTF-8 bytes. */
export function utf8(text: string): Bytes {
  return Buffer.from(text).toString('latin1')
}

export function toBuffer(bytes: Bytes): Buffer {
  return Buffer.from(bytes, 'latin1')
}

/** Bytes for people: as UTF-8, with everything else escaped. */
export function shown(bytes: Bytes): string {
  const buffer = toBuffer(bytes)
  const text = buffer.toString('utf8')
  return JSON.stringify(Buffer.from(text).equals(buffer) ? text : bytes.replace(/[^\x20-\x7e]/g, escaped))
}

function escaped(char: string): string {
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`
}

/** Whether two trees have the same at a path. */
export function same(one: Entry | undefined, other: Entry | undefined): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

/** Whether a tree has room for a path: nothing is there, or above it, or below it. */
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
