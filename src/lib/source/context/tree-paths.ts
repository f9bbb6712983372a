import type { TreeFile } from './git-tree.ts'

/** As many symlinks as Linux follows in one path before it gives up. */
const MAX_LINKS = 40

/** Where a path leads when symlinks are followed inside the tree. */
export interface Resolved {
  /** What is there; null when nothing is, or a directory. */
  file: TreeFile | null
  /** The symlinks on the way. */
  links: TreeFile[]
}

/**
 * Follows a path through a tree as BuildKit does: `/` and a `..` too many are the tree's root, so nothing
 * leads out of it.
 * @param byPath the files of the tree
 * @param targetOf reads where a symlink points.
 */
export async function resolveInTree(
  byPath: ReadonlyMap<string, TreeFile>,
  path: string,
  targetOf: (link: TreeFile) => Promise<string>,
): Promise<Resolved> {
  const links: TreeFile[] = []
  let done: string[] = []
  const todo = path.split('/')
  while (todo.length > 0) {
    const part = todo.shift() as string
    if (part === '' || part === '.') continue
    if (part === '..') {
      done.pop()
      continue
    }
    done.push(part)
    const file = byPath.get(done.join('/'))
    if (file?.kind !== 'symlink') continue
    links.push(file)
    if (links.length > MAX_LINKS) return { file: null, links }
    const target = await targetOf(file)
    done = target.startsWith('/') ? [] : done.slice(0, -1)
    todo.unshift(...target.split('/'))
  }
  return { file: byPath.get(done.join('/')) ?? null, links: [...new Set(links)] }
}
