import { createHash } from 'node:crypto'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import {
  createGitRepository,
  type FileContent,
  type GitRepository,
  gitEnv,
} from '../support/git/repository.ts'
import { start } from '../support/processes.ts'
import {
  BASE,
  type Bytes,
  type Entry,
  FOLDER,
  keyOf,
  LFS_OBJECTS,
  NAME,
  RUN,
  same,
  type Tree,
  toBuffer,
} from './generate/model.ts'

/** A bare repository to which a history is written, commit by commit. */
export interface TestRepository {
  readonly dir: string
  /** Runs git in it. */
  git(...args: string[]): Promise<string>
  /** Creates a commit with exactly this content; resolves to its id. */
  commit(tree: Tree): Promise<string>
}

/** Values of placeholders. */
export interface Words {
  base: string
  run: string
}

interface AllWords extends Words {
  /** Of the repository, without its owner. */
  name: string
  /** That of all repositories. */
  folder: string
}

export async function createRepository(dir: string, given: Words): Promise<TestRepository> {
  const git = await createWithObjects(dir)
  const words = { ...given, name: basename(dir, '.git'), folder: dirname(dirname(dir)) }
  const modules = new Map<string, GitRepository>()
  /** By module and content. */
  const pinned = new Map<string, string>()
  let before: Tree = new Map()

  async function pin({ module, tree }: Entry & { kind: 'submodule' }): Promise<string> {
    const key = `${module} ${keyOf(tree)}`
    const known = pinned.get(key)
    if (known !== undefined) return known
    const at = join(dirname(dir), `${words.name}-${module}.git`)
    const repository = modules.get(module) ?? (await createWithObjects(at))
    modules.set(module, repository)
    const options = { branch: `new${pinned.size}`, message: 'module', date: PINNED }
    const sha = await repository.commit(await contentsOf(tree), options)
    // Earlier ones are on no branch.
    await repository.git('update-ref', 'refs/heads/main', sha)
    await repository.git('update-ref', '-d', `refs/heads/${options.branch}`)
    pinned.set(key, sha)
    return sha
  }

  async function contentsOf(tree: Iterable<readonly [Bytes, Entry]>): Promise<[Buffer, FileContent][]> {
    const contents: [Buffer, FileContent][] = []
    for (const [path, entry] of tree) {
      const content = entry.kind === 'submodule' ? { submodule: await pin(entry) } : contentOf(entry, words)
      contents.push([toBuffer(path), content])
    }
    return contents
  }

  return {
    dir,
    git: git.git,
    async commit(tree) {
      const gone = [...before.keys()].filter((path) => !tree.has(path))
      const changed = [...tree].filter(([path, entry]) => !same(entry, before.get(path)))
      before = tree
      return git.commit([
        ...gone.map((path) => [toBuffer(path), null] as const),
        ...(await contentsOf(changed)),
      ])
    },
  }
}

/** When commits of submodules were made. */
const PINNED = new Date(Date.UTC(2024, 0, 1))

/** A repository with all objects in Git LFS, where git-lfs looks for them in a folder. */
async function createWithObjects(dir: string): Promise<GitRepository> {
  const repository = await createGitRepository(dir, `file://${dir}`)
  for (const object of LFS_OBJECTS) {
    const oid = createHash('sha256').update(toBuffer(object)).digest('hex')
    const folder = join(dir, 'lfs/objects', oid.slice(0, 2), oid.slice(2, 4))
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, oid), toBuffer(object))
  }
  // git looks for both names, git-lfs does not.
  await symlink(basename(dir), dir.replace(/\.git$/, ''))
  return repository
}

function contentOf(entry: Exclude<Entry, { kind: 'submodule' }>, words: AllWords): FileContent {
  if (entry.kind === 'link') return { symlink: toBuffer(entry.target) }
  return { content: toBuffer(filled(entry.content, words)), mode: entry.executable ? 0o755 : 0o644 }
}

/** The content with its placeholders replaced. */
export function filled(content: Bytes, { base, run, name, folder }: AllWords): Bytes {
  return content.replaceAll(BASE, base).replaceAll(RUN, run).replaceAll(NAME, name).replaceAll(FOLDER, folder)
}

/** Settings of git. */
export const CLONE_CONFIG = [
  'protocol.file.allow=always',
  // As `git lfs install` has it.
  'filter.lfs.smudge=git-lfs smudge -- %f',
  'filter.lfs.required=true',
  // An aid for editors, which no build gets.
  'lfs.setlockablereadonly=false',
]

/**
 * Clones the head of a repository with its submodules and files in Git LFS, without `.git`. False if git cannot: a
 * .gitmodules may say anything.
 */
export async function checkOut(repository: string, folder: string): Promise<boolean> {
  if ((await clone(repository, folder)) !== null) return false
  const args = [folder, '-name', '.git', '-prune', '-exec', 'rm', '-rf', '{}', '+']
  const removed = await start('find', args, { env: gitEnv() })
  if ((await removed.exited).code !== 0) throw new Error(removed.stderr())
  return true
}

/** The same with `.git`; null, or what git says if it cannot. */
export async function clone(repository: string, folder: string): Promise<string | null> {
  // In a shell, because its umask determines the modes.
  const script = 'umask 022; to=$1; shift; git "$@" "$to"'
  const config = CLONE_CONFIG.flatMap((one) => ['-c', one])
  const args = [folder, ...config, 'clone', '--quiet', '--recurse-submodules', `file://${repository}`]
  const git = await start('sh', ['-c', script, 'sh', ...args], { env: gitEnv() })
  const { code } = await git.exited
  return code === 0 ? null : git.stderr()
}
