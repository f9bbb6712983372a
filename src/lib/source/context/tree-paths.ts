import { posix } from 'node:path'
import type { TreeFile } from './git-tree.ts'

/** Limit of symlinks in a path, as in Linux. */
const MAX_LINKS = 40

/** Result of resolving a path and its symlinks in a tree. */
export interface ResolvedPath {
  /** Null if the path does not exist, or is a directory. */
  file: TreeFile | null
  /** The symlinks that were followed. */
  links: TreeFile[]
  /** Whether the path leads into a submodule, whose files are not known yet. */
  inSubmodule: boolean
}

/**
 * Resolves a path in a tree as BuildKit does: `/`, and `..` in the root, are the tree's root, so no path leads out
 * of the tree. Unlike in Linux, `..` takes away the name before it, wherever a symlink of that name leads. In an absolute
 * target it does not always: that depends on what else BuildKit has been sent, so such a target counts as missing.
 * (https://github.com/containerd/continuity/blob/main/fs/path.go, RootPath)
 * @param byPath the files of the tree
 * @param targetOf reads the target of a symlink
 */
export async function resolveInTree(
  byPath: ReadonlyMap<string, TreeFile>,
  path: string,
  targetOf: (link: TreeFile) => Promise<string>,
): Promise<ResolvedPath> {
  const links: TreeFile[] = []
  let inSubmodule = false
  let parts = partsOf(path)
  for (let count = 1; count <= parts.length; count += 1) {
    const file = byPath.get(parts.slice(0, count).join('/'))
    inSubmodule ||= file?.kind === 'submodule'
    if (file?.kind !== 'symlink') continue
    links.push(file)
    const target = await targetOf(file)
    const isUnclear = target.startsWith('/') && target.split('/').includes('..')
    if (isUnclear || links.length > MAX_LINKS) return { file: null, links: [...new Set(links)], inSubmodule }
    const from = target.startsWith('/') ? [] : parts.slice(0, count - 1)
    parts = partsOf([...from, target, ...parts.slice(count)].join('/'))
    count = 0
  }
  return { file: byPath.get(parts.join('/')) ?? null, links: [...new Set(links)], inSubmodule }
}

/** The names in a path from the root. */
function partsOf(path: string): string[] {
  return posix
    .normalize(`/${path}`)
    .split('/')
    .filter((part) => part !== '')
}
