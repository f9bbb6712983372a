import { Pace } from '../util/pace.ts'
import type { Git } from './git/git.ts'
import type { FileChange } from './source.ts'

const KINDS: ReadonlyMap<string, FileChange['kind']> = new Map([
  ['A', 'added'],
  ['D', 'removed'],
])

/** The files that differ between two trees. @throws GitFailure, or the signal's reason */
export async function changedFiles(
  git: Git,
  gitDir: string,
  [before, after]: [string, string],
  signal?: AbortSignal,
): Promise<FileChange[]> {
  const args = ['diff-tree', '-r', '-z', '--name-status', '--no-renames', before, after]
  const diff = git.start(args, { gitDir, signal })
  diff.stdin.end()
  const pace = new Pace(signal)
  const found: FileChange[] = []
  let rest: Buffer = Buffer.alloc(0)
  // A status, a path, and so on.
  let status: string | undefined
  try {
    for await (const chunk of diff.stdout as AsyncIterable<Buffer>) {
      const bytes = Buffer.concat([rest, chunk])
      let start = 0
      for (let end = bytes.indexOf(0); end >= 0; end = bytes.indexOf(0, start)) {
        const field = bytes.toString('utf8', start, end)
        start = end + 1
        if (status === undefined) status = field
        else {
          found.push({ kind: KINDS.get(status) ?? 'changed', path: field })
          status = undefined
        }
      }
      rest = bytes.subarray(start)
      if (pace.isDue) await pace.rest()
    }
    await diff.ended
  } catch (error) {
    diff.stop()
    // The reason is more useful than the error about a closed pipe.
    signal?.throwIfAborted()
    throw error
  }
  return found
}
