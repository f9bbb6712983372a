import { randomUUID } from 'node:crypto'
import { mkdir, rename, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Ref } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRepository, validSha } from '../../core/validate.ts'
import { KeyedMutex } from '../../util/keyed-mutex.ts'
import type { History } from '../source.ts'
import { fetchError, said } from './errors.ts'
import { Git, GitFailure, type GitOptions } from './git.ts'
import { statOrNull } from './mirror.ts'
import { lockMirror } from './mirror-lock.ts'
import { askRemote, type RemoteOptions, remoteOf } from './remote.ts'

export interface GitHistoryOptions extends RemoteOptions {
  /** Folder for what is known of commits; made when needed. */
  dir: string
  /** Environment to take PATH, proxy and certificate settings from. */
  environment?: Record<string, string | undefined>
  /** Longest time for one question, in milliseconds. Default 20 s for refs, a minute for commits. */
  limitsMs?: { refs: number; commits: number }
}

/** Reading what is here must never fetch what is not: it is a partial clone. */
const OFFLINE = { GIT_NO_LAZY_FETCH: '1', GIT_ALLOW_PROTOCOL: 'none' }

/**
 * What a git server says of refs (`git ls-remote`) and of commits: these are fetched without their trees and
 * files into a bare repository of their own, as mirrors have single commits and know nothing of what was before.
 */
export function gitHistory(options: GitHistoryOptions): History {
  const dir = resolve(options.dir)
  const git = new Git(options.environment ?? {}, dir)
  const remote = remoteOf(options, dir)
  const limits = options.limitsMs ?? { refs: 20_000, commits: 60_000 }
  const mutex = new KeyedMutex()

  /** Runs git against the server. `question` completes "cannot ask HOST ...". */
  async function ask(
    args: string[],
    { signal, limitMs, ...more }: GitOptions & { limitMs: number },
    { repository, question }: { repository: string; question: string },
  ): Promise<string> {
    const timeout = AbortSignal.timeout(limitMs)
    const limited = signal ? AbortSignal.any([signal, timeout]) : timeout
    await mkdir(dir, { recursive: true, mode: 0o700 })
    try {
      const answer = await askRemote(remote, ({ config, env }) =>
        git.run(args, { ...more, config, env, secrets: remote.secrets, signal: limited }),
      )
      return answer.toString('utf8')
    } catch (error) {
      signal?.throwIfAborted()
      const asked = `cannot ask ${remote.host} ${question} of ${repository}`
      if (timeout.aborted) throw new ConveyorError('unavailable', `${asked}: it took too long`)
      if (!(error instanceof GitFailure)) throw error
      const known = fetchError(error, { repository, sha: '', remote })
      const { kind, hint } =
        known instanceof ConveyorError ? known : { kind: 'unavailable' as const, hint: undefined }
      throw new ConveyorError(kind, `${asked}: ${said(error)}`, { ...(hint && { hint }), cause: error })
    }
  }

  async function head(
    repository: string,
    ref: Ref | null,
    signal?: AbortSignal,
  ): Promise<{ ref: Ref; sha: string } | null> {
    const full = ref === null ? 'HEAD' : `refs/${ref.kind === 'branch' ? 'heads' : 'tags'}/${ref.name}`
    const url = remote.url(validRepository(repository))
    // An annotated tag comes with the commit that it is for, under its name and ^{}.
    const args = ['ls-remote', '--symref', '--', url, full, `${full}^{}`]
    const about = { repository, question: `where ${full} is` }
    const lines = (await ask(args, { signal, limitMs: limits.refs }, about)).split('\n')
    const shaOf = (name: string) =>
      lines.find((line) => /^[0-9a-f]+\t/.test(line) && line.endsWith(`\t${name}`))
    const [sha] = (shaOf(`${full}^{}`) ?? shaOf(full))?.split('\t') ?? []
    const found = ref ?? branchOf(lines)
    return sha === undefined || found === null ? null : { ref: found, sha: validSha(sha) }
  }

  async function contains(
    repository: string,
    descendant: string,
    sha: string,
    signal?: AbortSignal,
  ): Promise<boolean> {
    if (validSha(descendant) === validSha(sha)) return true
    const key = validRepository(repository).toLowerCase()
    const gitDir = join(dir, `${key}.git`)
    return mutex.run(
      key,
      async () => {
        await mkdir(dirname(gitDir), { recursive: true, mode: 0o700 })
        await using lock = await lockMirror(git, join(dir, `${key}.lock`), signal)
        await prepare(gitDir, sha)
        const from = `refs/conveyor/${descendant}`
        if (!(await has(gitDir, descendant, signal))) {
          const args = [
            'fetch',
            '--filter=tree:0',
            '--no-tags',
            '--no-write-fetch-head',
            '--no-auto-maintenance',
          ]
          const what = ['--end-of-options', remote.url(repository), `+${descendant}:${from}`]
          const about = { repository, question: `for the commits before ${descendant.slice(0, 7)}` }
          await ask([...args, ...what], { gitDir, signal, limitMs: limits.commits, holdFd: lock.fd }, about)
        }
        if (!(await has(gitDir, sha, signal))) return false
        const outside = ['rev-list', '--max-count=1', sha, `^${descendant}`]
        return (await read(gitDir, outside, { signal })) === ''
      },
      signal,
    )
  }

  /**
   * Runs git on what is here. What cannot be read is removed, to be fetched anew.
   * @throws ConveyorError `unavailable` then
   */
  async function read(gitDir: string, args: string[], more: GitOptions): Promise<string> {
    try {
      return (await git.run(args, { ...more, gitDir, env: OFFLINE })).toString('utf8')
    } catch (error) {
      if (!(error instanceof GitFailure)) throw error
      await rm(gitDir, { recursive: true, force: true })
      const message = `what is known of commits in ${gitDir} cannot be read: ${said(error)}`
      throw new ConveyorError('unavailable', message, { hint: 'Try again: it is fetched anew', cause: error })
    }
  }

  /** Makes the repository, under another name first, so that there is a whole one or none. */
  async function prepare(gitDir: string, sha: string): Promise<void> {
    if (await statOrNull(gitDir)) return
    const temporary = join(dir, '.tmp', randomUUID())
    const format = sha.length === 64 ? 'sha256' : 'sha1'
    await mkdir(dirname(temporary), { recursive: true, mode: 0o700 })
    await git.run(['init', '--quiet', '--bare', '--template=', `--object-format=${format}`, temporary])
    await rename(temporary, gitDir)
  }

  /** Whether a commit is here; then all before it is. */
  async function has(gitDir: string, sha: string, signal: AbortSignal | undefined): Promise<boolean> {
    const answer = await read(gitDir, ['cat-file', '--batch-check'], { input: `${sha}^{commit}\n`, signal })
    return !answer.includes(' missing')
  }

  return { head, contains }
}

/** Of the answer for HEAD, which says `ref: refs/heads/main` where the server tells it. */
function branchOf(lines: string[]): Ref | null {
  const name = lines.map((line) => /^ref: refs\/heads\/(.+)\tHEAD$/.exec(line)?.[1]).find(Boolean)
  return name === undefined ? null : { kind: 'branch', name }
}
