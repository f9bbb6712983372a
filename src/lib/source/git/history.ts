import { mkdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Ref } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { fullRef, validRepository, validSha } from '../../core/validate.ts'
import { KeyedMutex } from '../../util/locks/keyed-mutex.ts'
import type { History } from '../source.ts'
import { ensureBare } from './bare.ts'
import { gitMessage } from './errors.ts'
import { Git, GitFailure, type GitOptions } from './git.ts'
import { lockMirror } from './mirror-lock.ts'
import { remoteQuery } from './query.ts'
import { type RemoteOptions, remoteOf } from './remote.ts'

export interface GitHistoryOptions extends RemoteOptions {
  /** Folder for the commit history; created when needed. */
  dir: string
  /** Environment for PATH, proxy and certificate settings. */
  environment?: Record<string, string | undefined>
  /** Timeouts of a query, in milliseconds. Default 20 s for refs, a minute for commits. */
  limitsMs?: { refs: number; commits: number }
}

/** For partial clones: reading one must never fetch missing objects. */
export const OFFLINE = { GIT_NO_LAZY_FETCH: '1', GIT_ALLOW_PROTOCOL: 'none' }

/**
 * Queries a git server for refs (`git ls-remote`) and for commits, which are fetched without trees and files into a
 * separate bare repository, because the mirrors are shallow.
 */
export function gitHistory(options: GitHistoryOptions): History {
  const dir = resolve(options.dir)
  const git = new Git(options.environment ?? {}, dir)
  const remote = remoteOf(options, dir)
  const limits = options.limitsMs ?? { refs: 20_000, commits: 60_000 }
  const mutex = new KeyedMutex()

  const query = remoteQuery(remote, dir)

  async function head(
    repository: string,
    ref: Ref | null,
    signal?: AbortSignal,
  ): Promise<{ ref: Ref; sha: string } | null> {
    const full = ref === null ? 'HEAD' : fullRef(ref)
    const url = remote.url(validRepository(repository))
    // For an annotated tag, `NAME^{}` is the commit that it points to.
    const args = ['ls-remote', '--symref', '--', url, full, `${full}^{}`]
    const about = { repository, action: `look up ${full}`, signal, limitMs: limits.refs }
    const output = await query(about, (connection) => git.run(args, connection))
    const lines = output.toString('utf8').split('\n')
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
    const key = repositoryKey(validRepository(repository))
    const gitDir = join(dir, `${key}.git`)
    return mutex.run(
      key,
      async () => {
        await mkdir(dirname(gitDir), { recursive: true, mode: 0o700 })
        await using lock = await lockMirror(git, join(dir, `${key}.lock`), signal)
        await ensureBare(git, gitDir, sha, dir)
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
          const action = `fetch the history of ${descendant.slice(0, 7)}`
          await query({ repository, action, signal, limitMs: limits.commits }, (connection) =>
            git.run([...args, ...what], { ...connection, gitDir, holdFd: lock.fd }),
          )
        }
        if (!(await has(gitDir, sha, signal))) return false
        const outside = ['rev-list', '--max-count=1', sha, `^${descendant}`]
        return (await read(gitDir, outside, { signal })) === ''
      },
      signal,
    )
  }

  /**
   * Runs git on the local repository. If it cannot be read, it is removed, and fetched again later.
   * @throws ConveyorError `unavailable` in that case
   */
  async function read(gitDir: string, args: string[], more: GitOptions): Promise<string> {
    try {
      return (await git.run(args, { ...more, gitDir, env: OFFLINE })).toString('utf8')
    } catch (error) {
      if (!(error instanceof GitFailure)) throw error
      await rm(gitDir, { recursive: true, force: true })
      const message = `cannot read the commit history in ${gitDir}: ${gitMessage(error)}`
      throw new ConveyorError('unavailable', message, {
        hint: 'Retry: it will be fetched again',
        cause: error,
      })
    }
  }

  /** Whether a commit is in the local repository, and with it all of its history. */
  async function has(gitDir: string, sha: string, signal: AbortSignal | undefined): Promise<boolean> {
    const output = await read(gitDir, ['cat-file', '--batch-check'], { input: `${sha}^{commit}\n`, signal })
    return !output.includes(' missing')
  }

  return { head, contains }
}

/** The default branch, from the line `ref: refs/heads/main HEAD`, if the server sends it. */
function branchOf(lines: string[]): Ref | null {
  const name = lines.map((line) => /^ref: refs\/heads\/(.+)\tHEAD$/.exec(line)?.[1]).find(Boolean)
  return name === undefined ? null : { kind: 'branch', name }
}
