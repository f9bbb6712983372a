import { Pace } from '../../util/pace.ts'
import type { ContextEntry } from '../source.ts'
import type { CheckedOut } from './checkout-filters.ts'
import { type Dockerignore, dockerignoreOf, type IgnoreVerdict } from './dockerignore.ts'
import type { TreeFile } from './git-tree.ts'

/** Which files and directories of a tree belong to a context. */
export interface Selection {
  files: TreeFile[]
  /** The entries, in order, given conversions and targets of symlinks. */
  entries(
    converted: ReadonlyMap<TreeFile, CheckedOut>,
    linkTargets: ReadonlyMap<TreeFile, Uint8Array>,
  ): Promise<ContextEntry[]>
}

interface Directory {
  path: string
  rawPath: Buffer
  verdict: IgnoreVerdict | undefined
  listed: boolean
}

const NOTHING = new Uint8Array()

/**
 * Walks the sorted files of a tree. A directory is listed if it is not excluded itself (it may then be
 * empty), or if an exception re-includes something below it.
 */
export async function listEntries(
  files: readonly TreeFile[],
  ignore: Dockerignore | undefined,
  pace: Pace,
): Promise<Selection> {
  const listed: (TreeFile | Directory)[] = []
  /** The directories from the root to the current file. */
  const stack: Directory[] = []

  /** Lists the directories of the stack; the parents of a listed one are already listed. */
  function listStack(): void {
    let from = stack.length
    while (from > 0 && !stack[from - 1]?.listed) from--
    for (const directory of stack.slice(from)) {
      listed.push(directory)
      directory.listed = true
    }
  }

  /** Sets the stack to the directories of `file`. False if it is in a directory with a final verdict. */
  function enter({ rawPath }: TreeFile): boolean {
    for (;;) {
      const parent = stack.at(-1)
      if (parent && !holds(parent.rawPath, rawPath)) {
        stack.pop()
        continue
      }
      if (parent?.verdict?.final) return false
      const at = (parent?.rawPath.length ?? -1) + 1
      const slash = rawPath.indexOf(47, at)
      if (slash < 0) return true
      const raw = rawPath.subarray(0, slash)
      const name = raw.toString('utf8')
      const directory = {
        path: name,
        rawPath: raw,
        verdict: ignore?.judge(name, parent?.verdict),
        listed: false,
      }
      stack.push(directory)
      if (!directory.verdict?.excluded) listStack()
    }
  }

  for (const file of files) {
    if (pace.isDue) await pace.rest()
    if (!enter(file) || ignore?.judge(file.path, stack.at(-1)?.verdict).excluded) continue
    listStack()
    listed.push(file)
  }
  return {
    files: listed.filter((one) => 'oid' in one),
    async entries(converted, targets) {
      const entries: ContextEntry[] = []
      await pace.forEach(listed, (one) =>
        entries.push(
          'oid' in one ? fileEntry(one, converted.get(one), targets.get(one)) : directoryEntry(one),
        ),
      )
      return entries
    },
  }
}

/**
 * See Context.entriesWithout.
 * @param ignore what the entries were listed with: usually, the frontend has read the same file
 */
export async function entriesWithout(
  entries: ContextEntry[],
  patterns: readonly string[],
  ignore: Dockerignore | undefined,
  signal?: AbortSignal,
): Promise<ContextEntry[]> {
  // Joined, as BuildKit sends them: what `a, b` was before cannot be told.
  if (patterns.length === 0 || patterns.join(', ') === ignore?.lines.join(', ')) return entries
  const pace = new Pace(signal)
  const more = await dockerignoreOf(patterns, 'the list of what the frontend excludes', pace)
  const kept = new Set<ContextEntry>()
  const above: { entry: ContextEntry; prefix: string; verdict: IgnoreVerdict }[] = []
  for (const entry of entries) {
    if (pace.isDue) await pace.rest()
    while (above.length > 0 && !entry.path.startsWith(above.at(-1)?.prefix ?? '')) above.pop()
    const parent = above.at(-1)?.verdict
    if (parent?.final) continue
    const verdict = more.judge(entry.path, parent)
    // If a directory is kept, so are its parents.
    for (let i = above.length - 1; i >= 0 && !verdict.excluded; i--) {
      const directory = above[i]?.entry
      if (!directory || kept.has(directory)) break
      kept.add(directory)
    }
    if (!verdict.excluded) kept.add(entry)
    if (entry.kind === 'directory') above.push({ entry, prefix: `${entry.path}/`, verdict })
  }
  return pace.filter(entries, (entry) => kept.has(entry))
}

/** By bytes: two names that are not valid UTF-8 may decode to the same text. */
function holds(directory: Buffer, path: Buffer): boolean {
  const { length } = directory
  return path[length] === 47 && directory.compare(path, 0, length) === 0
}

function directoryEntry({ path, rawPath }: Pick<Directory, 'path' | 'rawPath'>): ContextEntry {
  return { path, rawPath, kind: 'directory', mode: 0o755, size: 0, contentId: '', linkTarget: NOTHING }
}

function fileEntry(file: TreeFile, converted?: CheckedOut, linkTarget: Uint8Array = NOTHING): ContextEntry {
  const { path, rawPath, oid } = file
  // Nothing is in it.
  if (file.kind === 'submodule' || file.kind === 'directory') return directoryEntry(file)
  if (file.kind === 'symlink') {
    return { path, rawPath, kind: 'symlink', mode: 0o777, size: 0, contentId: oid, linkTarget }
  }
  const mode = file.kind === 'executable' ? 0o755 : 0o644
  const { size, contentId } = converted ?? { size: file.size, contentId: oid }
  return { path, rawPath, kind: 'file', mode, size, contentId, linkTarget: NOTHING }
}
