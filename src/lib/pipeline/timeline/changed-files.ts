import { selectEntries } from '../../buildkit/session/follow-paths.ts'
import type { FileDifference } from '../../core/timeline.ts'
import type { ContextEntry } from '../../source/source.ts'
import { Pace } from '../../util/pace.ts'

export interface ChangedFile {
  path: string
  change: FileDifference
}

/**
 * The files that differ between two contexts among those that COPY, ADD or a mount takes from them, by path. Directories
 * count through the files in them.
 * @param paths in the context, with wildcards
 */
export async function changedFiles(
  before: ContextEntry[],
  after: ContextEntry[],
  paths: readonly string[],
  signal: AbortSignal,
): Promise<ChangedFile[]> {
  if (paths.length === 0) return []
  const wanted = paths.includes('.') ? { follow: null, include: null } : { follow: paths, include: [] }
  const pace = new Pace(signal)
  const left = new Map<string, ContextEntry>()
  const key = ({ rawPath }: ContextEntry) => Buffer.from(rawPath).toString('latin1')
  await pace.forEach(await selectEntries(before, wanted, signal), (entry) => {
    if (entry.kind !== 'directory') left.set(key(entry), entry)
  })
  const changed: ChangedFile[] = []
  await pace.forEach(await selectEntries(after, wanted, signal), (entry) => {
    if (entry.kind === 'directory') return
    const old = left.get(key(entry))
    left.delete(key(entry))
    const change = old ? difference(old, entry) : 'added'
    if (change) changed.push({ path: entry.path, change })
  })
  for (const { path } of left.values()) changed.push({ path, change: 'removed' })
  return changed.sort((a, b) => (a.path < b.path ? -1 : 1))
}

function difference(before: ContextEntry, after: ContextEntry): FileDifference | null {
  if (before.kind !== after.kind || before.contentId !== after.contentId) return 'changed'
  return before.mode === after.mode ? null : 'mode'
}
