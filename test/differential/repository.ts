import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { createGitRepository, type FileContent, gitEnv } from '../support/git/repository.ts'
import { start } from '../support/processes.ts'
import { BASE, type Bytes, type Entry, RUN, same, type Tree, toBuffer } from './generate/model.ts'

/** A bare repository to which a history is written, commit by commit. */
export interface TestRepository {
  readonly dir: string
  /** Creates a commit with exactly this content; resolves to its id. */
  commit(tree: Tree): Promise<string>
}

/** Values of the placeholders. */
export interface Words {
  base: string
  run: string
}

export async function createRepository(dir: string, words: Words): Promise<TestRepository> {
  const git = await createGitRepository(dir, `file://${dir}`)
  let before: Tree = new Map()
  return {
    dir,
    async commit(tree) {
      const gone = [...before.keys()].filter((path) => !tree.has(path))
      const changed = [...tree].filter(([path, entry]) => !same(entry, before.get(path)))
      before = tree
      return git.commit([
        ...gone.map((path) => [toBuffer(path), null] as const),
        ...changed.map(([path, entry]) => [toBuffer(path), contentOf(entry, words)] as const),
      ])
    },
  }
}

function contentOf(entry: Entry, words: Words): FileContent {
  if (entry.kind === 'link') return { symlink: toBuffer(entry.target) }
  return { content: toBuffer(filled(entry.content, words)), mode: entry.executable ? 0o755 : 0o644 }
}

/** The content with its placeholders replaced. */
export function filled(content: Bytes, { base, run }: Words): Bytes {
  return content.replaceAll(BASE, base).replaceAll(RUN, run)
}

/** Clones a repository and checks out the commit, without `.git`. */
export async function checkOut(repository: string, sha: string, folder: string): Promise<void> {
  // In one shell, because its umask determines the modes.
  const script = `umask 022
    git clone --quiet --shared --no-checkout "$1" "$3" && git -C "$3" checkout --quiet --detach "$2"`
  const git = await start('sh', ['-c', script, 'sh', repository, sha, folder], { env: gitEnv() })
  const { code } = await git.exited
  if (code !== 0) throw new Error(`${sha} of ${repository} could not be checked out: ${git.stderr()}`)
  await rm(join(folder, '.git'), { recursive: true })
}
