import { appendFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { basicEnv, start } from '../processes.ts'

/** The content of a path after a commit; null removes it. */
export type FileContent =
  | string
  | Uint8Array
  | { content: string | Uint8Array; mode?: 0o644 | 0o755 }
  | { symlink: string | Uint8Array }
  | { submodule: string }
  | null

/** By path from the root; a Map, or pairs if a name is not valid UTF-8 or the order matters. */
export type Files = Record<string, FileContent> | Iterable<readonly [string | Uint8Array, FileContent]>

interface CommitOptions {
  message?: string
  /** Default `main`. A branch that does not exist yet begins at `from`, or without history. */
  branch?: string
  /** A commit or branch to build on instead of the branch's head, which then moves there (a force push). */
  from?: string
  /** Default: 2024-01-01, one second later for each commit. */
  date?: Date
}

/** A bare repository to which commits are written directly, as if they had been pushed. */
export interface GitRepository {
  readonly dir: string
  /** Where the git server serves it. */
  readonly url: string
  /** Changes files on a branch; resolves to the new commit's id. The same calls give the same ids. */
  commit(files: Files, options?: CommitOptions): Promise<string>
  /** Commit id of a branch, tag or other name. */
  resolve(name: string): Promise<string>
  /** Runs git in the repository and resolves to its output, without the newline at the end. */
  git(...args: string[]): Promise<string>
}

const EPOCH = Date.UTC(2024, 0, 1)
const WHO = 'Ada Example <ada@example.com>'

/** Any commit can be fetched by id, and pushes are accepted. */
const SETTINGS =
  '[uploadpack]\n\tallowAnySHA1InWant = true\n\tallowFilter = true\n[http]\n\treceivepack = true\n'
const SHA = /^[0-9a-f]{40}\n$/

/** The environment for git, without settings of the user or the machine. */
export function gitEnv(): NodeJS.ProcessEnv {
  return {
    ...basicEnv(),
    HOME: '/nonexistent',
    GIT_CONFIG_NOSYSTEM: '1',
    GIT_TERMINAL_PROMPT: '0',
    LC_ALL: 'C',
  }
}

/** Creates an empty bare repository that serves any commit by id, as GitHub does. */
export async function createGitRepository(dir: string, url: string): Promise<GitRepository> {
  await mkdir(dir, { recursive: true })
  await git(dir, ['init', '--quiet', '--bare', '--initial-branch=main', '--template=', '.'])
  await appendFile(join(dir, 'config'), SETTINGS)

  let commits = 0
  const repository: GitRepository = {
    dir,
    url,
    git: (...args) => git(dir, args),
    resolve: (name) => git(dir, ['rev-parse', '--verify', '--end-of-options', `${name}^{commit}`]),
    async commit(files, { message, branch = 'main', from, date } = {}) {
      commits += 1
      const ref = `refs/heads/${branch}`
      const parent = await (from === undefined ? headOf(dir, ref) : repository.resolve(from))
      const when = date?.getTime() ?? EPOCH + commits * 1000
      const person = `${WHO} ${Math.floor(when / 1000)} +0000`
      const stream = [
        `commit ${ref}\nmark :1\nauthor ${person}\ncommitter ${person}\n`,
        ...data(message ?? `Commit ${commits}`),
        ...(parent === '' ? [] : [`from ${parent}\n`]),
        ...entriesOf(files).flatMap(([path, content]) => change(path, content)),
        'get-mark :1\n',
      ]
      const bytes = Buffer.concat(stream.map((part) => Buffer.from(part)))
      return git(dir, ['fast-import', '--quiet', '--force'], bytes)
    },
  }
  return repository
}

/** The commit of a branch; empty if there is none. */
async function headOf(dir: string, ref: string): Promise<string> {
  // Starting git takes longer than most of what it does here.
  const loose = await readFile(join(dir, ref), 'utf8').catch(() => '')
  return SHA.test(loose) ? loose.trim() : git(dir, ['for-each-ref', '--format=%(objectname)', ref])
}

function entriesOf(files: Files): (readonly [string | Uint8Array, FileContent])[] {
  return Symbol.iterator in files ? [...files] : Object.entries(files)
}

function change(path: string | Uint8Array, content: FileContent): (string | Uint8Array)[] {
  if (content === null) return [`D ${quote(path)}\n`]
  if (typeof content === 'string' || content instanceof Uint8Array) return change(path, { content })
  if ('symlink' in content) return [`M 120000 inline ${quote(path)}\n`, ...data(content.symlink)]
  if ('submodule' in content) return [`M 160000 ${content.submodule} ${quote(path)}\n`]
  const mode = content.mode === 0o755 ? '100755' : '100644'
  return [`M ${mode} inline ${quote(path)}\n`, ...data(content.content)]
}

function data(content: string | Uint8Array): (string | Uint8Array)[] {
  return [`data ${Buffer.byteLength(content)}\n`, content, '\n']
}

/** Id of a commit's tree; undefined if the repository or the commit does not exist. */
export async function treeOf(dir: string, sha: string): Promise<string | undefined> {
  const args = ['rev-parse', '--verify', '--quiet', '--end-of-options', `${sha}^{tree}`]
  return (await ask(dir, args))?.trimEnd()
}

/** Text of a file of a commit; null if there is none. */
export async function fileOf(dir: string, sha: string, path: string): Promise<string | null> {
  return (await ask(dir, ['cat-file', 'blob', `${sha}:${path}`])) ?? null
}

/** The whole message of a commit; null if there is no such commit. */
export async function messageOf(dir: string, sha: string): Promise<string | null> {
  return (
    (await ask(dir, ['show', '--no-patch', '--format=%B', '--end-of-options', `${sha}^{commit}`])) ?? null
  )
}

/** How `head` relates to `base`, in GitHub's terms; null if one of them does not exist. */
export async function compare(
  dir: string,
  base: string,
  head: string,
): Promise<'ahead' | 'behind' | 'identical' | 'diverged' | null> {
  const counts = await ask(dir, ['rev-list', '--left-right', '--count', `${base}...${head}`])
  const [behind, ahead] = counts?.trim().split('\t').map(Number) ?? []
  if (behind === undefined || ahead === undefined) return null
  if (behind > 0) return ahead > 0 ? 'diverged' : 'behind'
  return ahead > 0 ? 'ahead' : 'identical'
}

/** The output of git; undefined if it fails. */
async function ask(dir: string, args: string[]): Promise<string | undefined> {
  const command = await start('git', ['--git-dir', dir, ...args], { env: gitEnv(), stdio: 'pipe' })
  const { code } = await command.exited
  return code === 0 ? command.stdout() : undefined
}

/** Any bytes as fast-import reads them: between quotes, the unusual ones as octal escapes. */
function quote(path: string | Uint8Array): string {
  const bytes = [...Buffer.from(path)].map((byte) => {
    const plain = byte > 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c
    return plain ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`
  })
  return `"${bytes.join('')}"`
}

async function git(dir: string, args: string[], input?: Uint8Array): Promise<string> {
  const command = await start('git', ['-C', dir, ...args], { env: gitEnv(), stdio: 'pipe' })
  command.child.stdin?.end(input)
  const { code } = await command.exited
  if (code !== 0) throw new Error(`git ${args.join(' ')} in ${dir}: ${command.stderr()}`)
  return command.stdout().trimEnd()
}
