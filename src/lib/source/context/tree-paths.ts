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
 * of the tree.
 * @param byPath the files of the tree
 * @param targetOf reads the target of a symlink
 */
export async function resolveInTree(
  byPath: ReadonlyMap<string, TreeFile>,
  path: string,
  targetOf: (link: TreeFile) => Promise<string>,
): Promise<ResolvedPath> {
  const links: TreeFile[] = []
  let done: string[] = []
  const todo = path.split('/')
  let inSubmodule = false
  while (todo.length > 0) {
    const part = todo.shift() as string
    if (part === '' || part === '.') continue
    if (part === '..') {
      done.pop()
      continue
    }
    done.push(part)
    const file = byPath.get(done.join('/'))
    inSubmodule ||= file?.kind === 'submodule'
    if (file?.kind !== 'symlink') continue
    links.push(file)
    if (links.length > MAX_LINKS) return { file: null, links, inSubmodule }
    const target = await targetOf(file)
    done = target.startsWith('/') ? [] : done.slice(0, -1)
    todo.unshift(...target.split('/'))
  }
  return { file: byPath.get(done.join('/')) ?? null, links: [...new Set(links)], inSubmodule }
}
