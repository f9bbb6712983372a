import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { shortName } from '../core/build.ts'
import { ConveyorError, toConveyorError } from '../core/errors.ts'
import { validSha } from '../core/validate.ts'
import { KeyedMutex } from '../util/locks/keyed-mutex.ts'
import { changedFiles } from './changed-files.ts'
import { openContext } from './context/context.ts'
import type { Submodule } from './context/context-tree.ts'
import type { OpenLfs } from './context/lfs-files.ts'
import { type CommitHistory, commitHistory } from './git/commit-history.ts'
import { fetchError, isDamage, isReadDamage, readError } from './git/errors.ts'
import { Git, GitFailure } from './git/git.ts'
import { Mirror, type MirrorLimits, statOrNull } from './git/mirror.ts'
import { lockMirror } from './git/mirror-lock.ts'
import { type RemoteOptions, remoteOf } from './git/remote.ts'
import { type GitLfsOptions, gitLfs } from './lfs/open.ts'
import type { Commit, Context, ContextOptions, FetchOptions, FileChange, Source } from './source.ts'
import { fetchSubmodule, lfsReader, type Mirrored, mirrorKey } from './submodules.ts'

export interface GitMirrorsOptions extends RemoteOptions {
  /** Folder for the mirrors; created when needed. */
  dir: string
  /**
   * From where submodules of a repository may be fetched, besides the host of `url`: hosts, and with credentials owners
   * or repositories on them (`gitlab.com/acme`). With `none`, only from there.
   */
  submoduleHosts?: (repository: string) => readonly string[]
  /** Whether the contexts of a repository have a `.git` folder. None do by default. */
  gitFolder?: (repository: string) => boolean
  /** Environment for PATH, proxy and certificate settings; nothing else of it is passed to git. */
  environment?: Record<string, string | undefined>
  /** Receives warnings about problems that affect no build: failed maintenance of a mirror. */
  warn?: (message: string) => void
  /** A fetch without any output for this long has failed. Default 2 minutes. */
  silenceMs?: number
  limits?: Partial<MirrorLimits>
  /** The default folder is `.lfs` below the one of the mirrors. */
  lfs?: Partial<GitLfsOptions>
}

/** A Source with background processes. */
export interface GitMirrors extends Source {
  /** Stops maintenance of the mirrors, and downloads. */
  close(): Promise<void>
}

const DEFAULT_LIMITS: MirrorLimits = { keepCommits: 200, maxPacks: 25, pruneEveryMs: 24 * 3600 * 1000 }
/** Incomplete mirrors and other temporary files of a killed process are removed after this time. */
const TEMPORARY_KEPT_MS = 24 * 3600 * 1000
/** Folder of the histories for `.git` folders. */
const HISTORIES = '.histories'

/**
 * Commits from a git server, through a bare mirror per repository at `dir/owner/name.git`.
 * @throws ConveyorError `invalid` if the URL template is malformed
 */
export function gitMirrors(options: GitMirrorsOptions): GitMirrors {
  const dir = resolve(options.dir)
  const tempDir = join(dir, '.tmp')
  const environment = options.environment ?? {}
  const git = new Git(environment, dir)
  const remote = remoteOf(options, dir)
  const lfs = gitLfs({ dir: join(dir, '.lfs'), ...options.lfs }, { git, environment, template: options.url })
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const silenceMs = options.silenceMs ?? 120_000
  const warn = options.warn ?? (() => {})
  const mutex = new KeyedMutex()
  /** Maintenance by repository, waiting or running: a fetch aborts it instead of waiting. */
  const maintenance = new Map<string, { abort: AbortController; ended: Promise<void> }>()
  /** Where commits were fetched from, other than the server of all repositories. */
  const origins = new WeakMap<Commit, Mirrored>()
  let swept = false

  const mirrorOf = (key: string) => new Mirror(git, join(dir, `${key}.git`))

  async function fetch(repository: string, sha: string, options: FetchOptions = {}): Promise<Commit> {
    return fetchFrom({ key: mirrorKey(repository), repository, remote }, validSha(sha), options)
  }

  async function fetchFrom(
    from: Mirrored,
    sha: string,
    { signal, log, offline }: FetchOptions,
  ): Promise<Commit> {
    const { key, repository } = from
    try {
      const commit = await findCommit(from, sha, log)
      if (commit) return commit
      if (offline)
        throw new ConveyorError('not_found', `${shortName({ repository, sha })} is not in the mirror`)
      maintenance.get(key)?.abort.abort()
      const fetched = await mutex.run(key, () => fetchLocked(from, sha, { signal, log }), signal)
      maintainLater(key)
      return fetched
    } catch (error) {
      if (error instanceof ConveyorError) throw error
      if (signal?.aborted) throw cancelled(repository, sha, signal.reason)
      throw toConveyorError(error, `could not fetch ${shortName({ repository, sha })}`)
    }
  }

  /** The commit, if the mirror has it. */
  async function findCommit({ key, repository, remote }: Mirrored, sha: string, log: FetchOptions['log']) {
    const mirror = mirrorOf(key)
    try {
      const facts = await mirror.find(sha)
      if (!facts) return null
      log?.(`${shortName({ repository, sha })} is already in the mirror`)
      return { repository, url: remote.url(repository), sha, gitDir: mirror.gitDir, ...facts }
    } catch (error) {
      if (!isReadDamage(error)) throw error
      // The ref exists, but the commit cannot be read.
      await mirror.markDamaged()
      return null
    }
  }

  async function fetchLocked(
    from: Mirrored,
    sha: string,
    { signal, log }: Pick<FetchOptions, 'signal' | 'log'>,
  ): Promise<Commit> {
    const { key, repository, remote } = from
    const mirror = mirrorOf(key)
    await prepareFolders()
    await mkdir(dirname(join(dir, key)), { recursive: true })
    await using lock = await lockMirror(git, join(dir, `${key}.lock`), signal)
    // The previous holder of the lock may have fetched the same commit.
    const found = await findCommit(from, sha, log)
    if (found) return found

    log?.(`fetching ${shortName({ repository, sha })} from ${remote.host}`)
    for (let attempt = 1; ; attempt += 1) {
      const transfer = transferReport()
      try {
        await mirror.prepare(sha, tempDir, lock)
        await mirror.fetch(repository, sha, remote, { signal, silenceMs, lock, onStderr: transfer.line })
        const facts = await mirror.find(sha)
        if (!facts) throw new GitFailure('fetch', 'created no ref', 'bad object')
        log?.(transfer.summary())
        return { repository, url: remote.url(repository), sha, gitDir: mirror.gitDir, ...facts }
      } catch (error) {
        signal?.throwIfAborted()
        if (!isDamage(error)) throw fetchError(error, { repository, sha, remote })
        await mirror.markDamaged()
        if (attempt === 2) throw readError(error, repository)
        log?.(`the mirror of ${repository} is corrupt; recreating it`)
      }
    }
  }

  async function prepareFolders(): Promise<void> {
    await mkdir(tempDir, { recursive: true, mode: 0o700 })
    if (swept) return
    swept = true
    for (const name of await readdir(tempDir)) {
      const path = join(tempDir, name)
      const age = Date.now() - ((await statOrNull(path))?.mtimeMs ?? Date.now())
      if (age > TEMPORARY_KEPT_MS) await rm(path, { recursive: true, force: true })
    }
  }

  function maintainLater(key: string): void {
    const abort = new AbortController()
    const { signal } = abort
    const work = async () => {
      if (!(await mirrorOf(key).needsMaintenance(limits))) return
      await using lock = await lockMirror(git, join(dir, `${key}.lock`), signal)
      await mirrorOf(key).maintain(limits, lock, signal)
    }
    const before = maintenance.get(key)
    before?.abort.abort()
    const ended = mutex
      .run(key, work, signal)
      .catch((error) => {
        if (!signal.aborted) warn(`maintenance of the mirror of ${key} failed: ${text(error)}`)
      })
      .then(() => before?.ended)
      .then(() => {
        if (maintenance.get(key) === entry) maintenance.delete(key)
      })
    const entry = { abort, ended }
    maintenance.set(key, entry)
  }

  async function context(
    commit: Commit,
    { dockerfile = 'Dockerfile', signal, log, offline, anonymous = false }: ContextOptions = {},
  ): Promise<Context> {
    const { repository, sha } = commit
    const hasGit = options.gitFolder?.(repository) ?? false
    const onDamage = (gitDir: string) => new Mirror(git, gitDir).markDamaged()
    const submodule = (one: Submodule) =>
      fetchSubmodule(commit, one, { own: remote, dir, options, anonymous }, async (from, sha) => {
        const found = await fetchFrom(from, sha, { signal, log, offline })
        origins.set(found, from)
        return found
      })
    const openLfs: OpenLfs = (of) => {
      const from = origins.get(of.commit)
      return lfsReader(lfs.open({ ...of, remote: from?.remote ?? remote }), from)
    }
    const history = hasGit ? (one: Commit) => historyOf(one, { signal, log, offline }) : null
    const open = { git, commit, dockerfile, signal, tempDir, onDamage, submodule, history, openLfs, log }
    try {
      await prepareFolders()
      return await openContext(open)
    } catch (error) {
      if (error instanceof ConveyorError) throw error
      if (signal?.aborted) throw cancelled(repository, sha, signal.reason)
      if (!(error instanceof GitFailure)) throw toConveyorError(error, `could not read ${shortName(commit)}`)
      if (isReadDamage(error)) await onDamage(commit.gitDir)
      throw readError(error, repository)
    }
  }

  function historyOf(commit: Commit, how: FetchOptions): Promise<CommitHistory> {
    const { repository } = commit
    const from = origins.get(commit) ?? { key: mirrorKey(repository), repository, remote }
    const path = join(dir, HISTORIES, from.key)
    return commitHistory(commit.sha, { ...how, ...from, git, path, mirrorDir: commit.gitDir, dir, silenceMs })
  }

  async function earlier(
    commit: Commit,
    { sha, tree }: { sha: string; tree: string | null },
  ): Promise<Commit | null> {
    const { gitDir } = commit
    const there = await new Mirror(git, gitDir).find(validSha(sha))
    if (there) return { ...commit, sha, ...there }
    const found = tree && (await hasTree(gitDir, validSha(tree)))
    return found ? { ...commit, sha, tree: found } : null
  }

  async function changes(
    commit: Commit,
    before: { sha: string; tree: string | null },
    signal?: AbortSignal,
  ): Promise<FileChange[] | null> {
    const tree = (await earlier(commit, before))?.tree
    return tree ? changedFiles(git, commit.gitDir, [tree, commit.tree], signal) : null
  }

  /** The tree, if the mirror has it through another commit. */
  async function hasTree(gitDir: string, tree: string): Promise<string | null> {
    try {
      await git.run(['cat-file', '-e', `${tree}^{tree}`], { gitDir })
      return tree
    } catch (error) {
      if (error instanceof GitFailure) return null
      throw error
    }
  }

  async function close(): Promise<void> {
    const running = [...maintenance.values()]
    for (const { abort } of running) abort.abort()
    await Promise.all([...running.map(({ ended }) => ended), lfs.close()])
  }

  return { fetch, context, earlier, changes, close }
}

/** Parses git's progress output, for how much was transferred. */
function transferReport() {
  let objects = '0'
  let size = ''
  return {
    line(line: string) {
      const match = /^Receiving objects: +\d+% \(\d+\/(\d+)\)(?:, ([\d.]+ \w+))?/.exec(line)
      if (!match) return
      objects = match[1] ?? objects
      size = match[2] ?? size
    },
    summary: () => `fetched ${objects} ${objects === '1' ? 'object' : 'objects'}${size && `, ${size}`}`,
  }
}

function cancelled(repository: string, sha: string, reason: unknown): ConveyorError {
  if (reason instanceof ConveyorError) return reason
  return new ConveyorError('cancelled', `reading ${shortName({ repository, sha })} was cancelled`, {
    cause: reason,
  })
}

const text = (error: unknown) => (error instanceof Error ? error.message : String(error))
