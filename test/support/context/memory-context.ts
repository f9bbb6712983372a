import { createHash } from 'node:crypto'
import { entriesWithout } from '../../../src/lib/source/context/entries.ts'
import type { Context, ContextEntry } from '../../../src/lib/source/source.ts'

/** A build context of a few small files, for tests that are not about git. */
export function memoryContext(files: Record<string, string | Uint8Array>): Context {
  const directories = new Set(
    Object.keys(files).flatMap((path) => {
      const parts = path.split('/').slice(0, -1)
      return parts.map((_, index) => parts.slice(0, index + 1).join('/'))
    }),
  )
  const entries: ContextEntry[] = [
    ...[...directories].map((path) => entry(path, 'directory', '')),
    ...Object.entries(files).map(([path, content]) => entry(path, 'file', content)),
  ].sort((a, b) => (walkKey(a.path) < walkKey(b.path) ? -1 : 1))
  const dockerfile = entries.find(({ path }) => path === 'Dockerfile')
  return {
    dockerfile: 'Dockerfile',
    dockerfileEntry: dockerfile ?? entry('Dockerfile', 'file', ''),
    entries,
    entriesWithout: (patterns, signal) => entriesWithout(entries, patterns, undefined, signal),
    dockerfileEntries: dockerfile ? [dockerfile] : [],
    async *read({ path }) {
      const content = files[path] ?? ''
      if (content.length > 0) yield Buffer.from(content)
    },
    async close() {},
  }
}

function entry(path: string, kind: 'directory' | 'file', content: string | Uint8Array): ContextEntry {
  return {
    path,
    rawPath: Buffer.from(path),
    kind,
    mode: kind === 'directory' ? 0o755 : 0o644,
    size: Buffer.byteLength(content),
    contentId: createHash('sha1').update(content).digest('hex'),
    linkTarget: Buffer.alloc(0),
  }
}

/** Sorts paths in the order of a walk: `/` before every other character. */
function walkKey(path: string): string {
  return path.replaceAll('/', '\0')
}
