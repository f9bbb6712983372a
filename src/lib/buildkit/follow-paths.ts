import { posix } from 'node:path'
import type { ContextEntry } from '../source/source.ts'

/**
 * Of a context's entries, those that the engine needs for the given paths (what a Dockerfile's COPY and
 * ADD name): the paths themselves, everything below them, the directories above them, and whatever a
 * symlink on the way leads to. A path may hold `*`, `?` and `[...]`, matched part by part. Keeps order.
 *
 * A path with a comma reaches us in pieces (see metadataList in file-sync.ts). So when one of several
 * paths matches nothing, everything is wanted: too much is slower, too little would be wrong.
 */
export function followPaths(entries: ContextEntry[], paths: string[]): ContextEntry[] {
  const byPath = new Map(entries.map((entry) => [entry.path, entry]))
  const roots = new Set<string>()
  const seen = new Set<string>()
  const todo = paths.map(clean)
  for (let path = todo.pop(); path !== undefined; path = todo.pop()) {
    if (seen.has(path)) continue
    seen.add(path)
    if (path === '') return entries
    const matches = expand(byPath, path)
    if (matches.length === 0 && paths.length > 1) return entries
    for (const match of matches) {
      roots.add(match.path)
      if (match.entry?.kind === 'symlink') {
        const target = Buffer.from(match.entry.linkTarget).toString()
        const base = target.startsWith('/') ? '' : posix.dirname(match.path)
        todo.push(clean(posix.join('/', base, target, match.rest)))
      }
    }
  }
  return entries.filter((entry) => isWanted(entry.path, roots))
}

interface Match {
  path: string
  entry: ContextEntry | undefined
  /** What of the path comes after a symlink. */
  rest: string
}

/** The entries that a path names, walking part by part and stopping at symlinks. */
function expand(byPath: Map<string, ContextEntry>, path: string): Match[] {
  const parts = path.split('/')
  let level: Match[] = [{ path: '', entry: undefined, rest: '' }]
  for (const [index, part] of parts.entries()) {
    const next: Match[] = []
    for (const parent of level) {
      if (parent.entry?.kind === 'symlink') next.push(parent)
      else {
        for (const child of children(byPath, parent.path, part)) {
          next.push({ path: child, entry: byPath.get(child), rest: parts.slice(index + 1).join('/') })
        }
      }
    }
    level = next
  }
  return level
}

function children(byPath: Map<string, ContextEntry>, parent: string, part: string): string[] {
  const prefix = parent === '' ? '' : `${parent}/`
  if (!/[*?[\\]/.test(part)) return byPath.has(prefix + part) ? [prefix + part] : []
  const found: string[] = []
  for (const path of byPath.keys()) {
    if (!path.startsWith(prefix)) continue
    const name = path.slice(prefix.length)
    if (!name.includes('/') && posix.matchesGlob(name, part)) found.push(path)
  }
  return found
}

function isWanted(path: string, roots: Set<string>): boolean {
  for (const root of roots) {
    if (path === root || path.startsWith(`${root}/`) || root.startsWith(`${path}/`)) return true
  }
  return false
}

function clean(path: string): string {
  const normal = posix.normalize(`/${path}`).replace(/\/$/, '')
  return normal.slice(1)
}
