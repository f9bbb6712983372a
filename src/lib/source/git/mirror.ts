import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { ConveyorError } from '../../core/errors.ts'
import { type CommitFacts, parseCommit } from './commit-object.ts'
import { type Git, GitFailure } from './git.ts'
import type { MirrorLock } from './mirror-lock.ts'
import { type GitConnection, type Remote, withRemote } from './remote.ts'

export interface MirrorLimits {
  /** Number of commits kept as the base of later fetches; the least recently used ones are dropped. */
  keepCommits: number
  /** Number of packs (one per fetch) above which small ones are repacked. */
  maxPacks: number
  /** Interval of pruning objects that no kept commit needs. */
  pruneEveryMs: number
}

const REFS = 'refs/conveyor'
/** Marker files in a mirror: it is corrupt; and the time of the last pruning. */
const DAMAGED_MARK = 'conveyor-damaged'
const PRUNED_MARK = 'conveyor-pruned'

/** Files that a killed git leaves behind; a `.keep` would exclude its pack from every repack. */
const LEFTOVERS: [folder: string, name: RegExp][] = [
  ['.', /\.lock$|^gc\.pid$/],
  [REFS, /\.lock$/],
  ['objects', /^(tmp_|incoming-)/],
  ['objects/pack', /^(\.?tmp[_-])|\.keep$|\.lock$/],
  ['objects/info', /\.lock$/],
]

/**
 * A bare repository with a ref for every completely fetched commit: git writes the ref last, after checking
 * that no object is missing. So it is the ref, not the commit object, that marks a commit as complete.
 * Writing requires the repository's lock.
 */
export class Mirror {
  readonly gitDir: string
  readonly #git: Git

  constructor(git: Git, gitDir: string) {
    this.#git = git
    this.gitDir = gitDir
  }

  /** The commit, if it is complete; else null. Needs neither lock nor network. */
  async find(sha: string): Promise<CommitFacts | null> {
    const ref = join(this.gitDir, REFS, sha)
    const now = new Date()
    try {
      if (await statOrNull(join(this.gitDir, DAMAGED_MARK))) return null
      await utimes(ref, now, now) // Time of the last use, for `forget`.
    } catch (error) {
      if (isNotFound(error)) return null
      throw error
    }
    try {
      return parseCommit(await this.#git.run(['cat-file', 'commit', sha], { gitDir: this.gitDir }))
    } catch (error) {
      if (!(error instanceof GitFailure && error.stderr.endsWith('bad file'))) throw error
      // Another type of object, or a missing one, for which this fails, too.
      await this.#git.run(['cat-file', '-t', sha], { gitDir: this.gitDir })
      throw new ConveyorError('not_found', `${sha.slice(0, 7)} is a blob or a tree, not a commit`)
    }
  }

  /** Creates the mirror if it is missing or corrupt, and removes what a killed git left in it. */
  async prepare(sha: string, tempDir: string, lock: MirrorLock): Promise<void> {
    if (await statOrNull(join(this.gitDir, DAMAGED_MARK))) await this.discard(tempDir)
    if (!(await statOrNull(this.gitDir))) return this.#create(sha, tempDir)
    if (!lock.exclusive) return
    for (const [folder, pattern] of LEFTOVERS) {
      for (const name of await list(join(this.gitDir, folder))) {
        if (pattern.test(name)) await rm(join(this.gitDir, folder, name), { recursive: true, force: true })
      }
    }
  }

  /** Created under a temporary name and renamed, so that a mirror is never incomplete. */
  async #create(sha: string, tempDir: string): Promise<void> {
    const temporary = join(tempDir, randomUUID())
    await this.#git.initBare(temporary, sha)
    await mkdir(join(temporary, REFS), { recursive: true })
    await mkdir(dirname(this.gitDir), { recursive: true })
    await rename(temporary, this.gitDir)
  }

  /** Fetches a commit, without the objects that the mirror already has. */
  async fetch(
    repository: string,
    sha: string,
    remote: Remote,
    options: {
      signal?: AbortSignal | undefined
      silenceMs: number
      lock: MirrorLock
      onStderr(line: string): void
    },
  ): Promise<void> {
    const { lock, ...rest } = options
    const args = [
      ...['fetch', '--depth=1', '--no-tags', '--no-write-fetch-head', '--no-auto-maintenance'],
      ...['--no-recurse-submodules', '--progress', '--end-of-options'],
      ...[remote.url(repository), `+${sha}:${REFS}/${sha}`],
    ]
    const run = ({ config, env, secrets }: Pick<GitConnection, 'config' | 'env' | 'secrets'>) =>
      this.#git.run(args, {
        ...rest,
        gitDir: this.gitDir,
        // A pack appears atomically; loose objects would appear one by one.
        config: [...config, ['fetch.unpackLimit', '1'], ['transfer.unpackLimit', '1']],
        env,
        secrets,
        holdFd: lock.fd,
      })
    await withRemote(remote, repository, run, options.signal)
  }

  /** Marks the mirror as corrupt: `find` returns null from now on, and the next `prepare` recreates it. */
  async markDamaged(): Promise<void> {
    await writeFile(join(this.gitDir, DAMAGED_MARK), '').catch((error) => {
      if (!isNotFound(error)) throw error // It has been discarded already.
    })
  }

  /** Removes the mirror; renamed first, so that it is never seen incomplete. */
  async discard(tempDir: string): Promise<void> {
    const doomed = join(tempDir, randomUUID())
    await rename(this.gitDir, doomed)
    await rm(doomed, { recursive: true, force: true })
  }

  /** Whether `maintain` has anything to do; takes microseconds. */
  async needsMaintenance(limits: MirrorLimits): Promise<boolean> {
    const due = await this.#due(limits)
    return due.forget || due.repack || due.prune
  }

  async #due({ keepCommits, maxPacks, pruneEveryMs }: MirrorLimits) {
    const refs = await list(join(this.gitDir, REFS))
    const packs = (await list(join(this.gitDir, 'objects/pack'))).filter((name) => name.endsWith('.pack'))
    const last =
      (await statOrNull(join(this.gitDir, PRUNED_MARK))) ?? (await statOrNull(join(this.gitDir, 'HEAD')))
    return {
      forget: refs.length > keepCommits,
      repack: packs.length > maxPacks,
      prune: last !== null && Date.now() - last.mtimeMs >= pruneEveryMs,
    }
  }

  /**
   * Keeps the mirror small and fast: forgets old commits, repacks small packs, and periodically prunes
   * unreachable objects. May be aborted at any time.
   */
  async maintain(limits: MirrorLimits, lock: MirrorLock, signal: AbortSignal): Promise<void> {
    const options = { gitDir: this.gitDir, signal, holdFd: lock.fd }
    const due = await this.#due(limits)
    if (due.forget) await this.#forget(limits.keepCommits, options)
    if (due.repack) await this.#git.run(['repack', '--geometric=2', '-d', '-q'], options)
    if (due.prune) {
      const config: [string, string][] = [
        // `forget` needs refs as single files.
        ['gc.packRefs', 'false'],
        ['gc.cruftPacks', 'true'],
      ]
      // A day's grace: a build may still be reading a commit that was just forgotten.
      await this.#git.run(['gc', '--quiet', '--prune=1.day.ago'], { ...options, config })
      await writeFile(join(this.gitDir, PRUNED_MARK), '')
    }
  }

  async #forget(
    keep: number,
    options: { gitDir: string; signal: AbortSignal; holdFd: number },
  ): Promise<void> {
    const names = await list(join(this.gitDir, REFS))
    const used = await Promise.all(
      names.map(async (name) => ({ name, at: (await stat(join(this.gitDir, REFS, name))).mtimeMs })),
    )
    const old = used.sort((a, b) => b.at - a.at).slice(keep)
    const input = old.map(({ name }) => `delete ${REFS}/${name}\n`).join('')
    await this.#git.run(['update-ref', '--stdin'], { ...options, input })
  }
}

async function list(folder: string): Promise<string[]> {
  return readdir(folder).catch((error) => {
    if (isNotFound(error)) return []
    throw error
  })
}

/** Stats of a path; null if it does not exist. */
export async function statOrNull(path: string) {
  return stat(path).catch((error) => {
    if (isNotFound(error)) return null
    throw error
  })
}

function isNotFound(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}
