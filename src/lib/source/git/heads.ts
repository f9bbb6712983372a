import { randomUUID } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Head } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { parseRef, validRepository, validSha } from '../../core/validate.ts'
import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import type { FoundCommit, RemoteHeads } from '../source.ts'
import { parseCommit } from './commit-object.ts'
import { Git, GitFailure, type GitProcess } from './git.ts'
import { type GitHistoryOptions, OFFLINE } from './history.ts'
import { remoteQuery } from './query.ts'
import { remoteOf } from './remote.ts'

const MOST_HEADS = 100_000
/** In bytes. A name has at most 255 characters, and an annotated tag two lines. */
const LONGEST_LIST = 64 * 1024 * 1024
const LONGEST_LINE = 4096
/** Larger commits are left out, in bytes. */
const LARGEST_COMMIT = 1024 * 1024
/** How many commits are read at a time. */
const AT_ONCE = 4

/** Lists branches and git tags with `git ls-remote`, and reads single commits, without their history and files. */
export function gitHeads(options: GitHistoryOptions): RemoteHeads {
  const dir = resolve(options.dir)
  const git = new Git(options.environment ?? {}, dir)
  const remote = remoteOf(options, dir)
  const limits = options.limitsMs ?? { refs: 30_000, commits: 60_000 }
  const query = remoteQuery(remote, dir)

  return {
    heads(repository, signal) {
      // Servers with protocol 2 send only these refs, and not those of pull requests.
      const args = ['ls-remote', '--heads', '--tags', '--', remote.url(validRepository(repository))]
      return query(
        { repository, action: 'list the branches', signal, limitMs: limits.refs },
        async (connection) => {
          const process = git.start(args, connection)
          process.stdin.end()
          const heads = await readHeads(process, repository)
          await process.ended
          return heads
        },
      )
    },

    async commits(repository, shas, signal) {
      const url = remote.url(validRepository(repository))
      let wanted = [...new Set(shas.map(validSha))]
      if (wanted.length === 0) return new Map()
      const gitDir = join(dir, '.tmp', randomUUID())
      await mkdir(dirname(gitDir), { recursive: true, mode: 0o700 })
      try {
        await git.initBare(gitDir, wanted[0] ?? '')
        const flags = ['--depth=1', '--filter=tree:0', '--no-tags', '--no-write-fetch-head']
        const args = ['fetch', ...flags, '--no-auto-maintenance', '--end-of-options', url]
        const about = { repository, action: 'fetch commits', signal, limitMs: limits.commits }
        while (wanted.length > 0) {
          const all = wanted
          try {
            await query(about, (connection) => git.run([...args, ...all], { ...connection, gitDir }))
            return await readCommits(git, gitDir, all, signal)
          } catch (error) {
            // It must not keep the others from being found.
            const leftOut = leftOutOf(error)
            wanted = all.filter((sha) => sha !== leftOut)
            if (wanted.length === all.length) throw error
          }
        }
        return new Map()
      } finally {
        await rm(gitDir, { recursive: true, force: true })
      }
    },
  }
}

/** What git says of an object that the server has left out: of a tag that points to a tree, as the Linux kernel has one. */
const LEFT_OUT = /^fatal: bad revision '([0-9a-f]{40,64})'$/m

/** The object that is no commit, and for which a fetch of several has failed; undefined if it failed for another reason. */
function leftOutOf(error: unknown): string | undefined {
  const failure = error instanceof ConveyorError ? error.cause : error
  return failure instanceof GitFailure ? LEFT_OUT.exec(failure.stderr)?.[1] : undefined
}

/** The lines of `git ls-remote`, as they arrive. */
async function readHeads(process: GitProcess, repository: string): Promise<Head[]> {
  const heads: Head[] = []
  let size = 0
  let rest = ''
  const add = (line: string) => {
    const [, sha = '', full = '', peeled] = /^([0-9a-f]+)\t(.+?)(\^\{\})?$/s.exec(line) ?? []
    const last = heads.at(-1)
    // The commit of an annotated tag follows the tag.
    if (peeled && last?.ref.kind === 'tag' && full === `refs/tags/${last.ref.name}`) last.sha = sha
    else if (!peeled) {
      const head = headOf(full, sha)
      if (head) heads.push(head)
    }
  }
  try {
    for await (const chunk of process.stdout.setEncoding('utf8')) {
      size += (chunk as string).length
      const lines = (rest + (chunk as string)).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) add(line)
      if (heads.length > MOST_HEADS || size > LONGEST_LIST || rest.length > LONGEST_LINE) {
        throw new ConveyorError(
          'invalid',
          `${repository} has more than ${MOST_HEADS} branches and git tags`,
          {
            hint: 'Delete some: pushes without a webhook are not found in a repository with so many',
          },
        )
      }
    }
  } catch (error) {
    process.stop()
    // If git has ended, its reason says more than the end of its output.
    if (!(error instanceof ConveyorError)) await process.ended
    throw error
  }
  return heads
}

/** Null for refs that no push can name. */
function headOf(full: string, sha: string): Head | null {
  try {
    const ref = parseRef(full)
    return ref && { ref, sha: validSha(sha), object: sha }
  } catch {
    return null
  }
}

async function readCommits(
  git: Git,
  gitDir: string,
  shas: string[],
  signal: AbortSignal | undefined,
): Promise<Map<string, FoundCommit>> {
  const local = { gitDir, signal, env: OFFLINE }
  const input = shas.map((sha) => `${sha}\n`).join('')
  const checked = await git.run(['cat-file', '--batch-check'], { ...local, input })
  const small = checked
    .toString('latin1')
    .split('\n')
    .flatMap((line) => {
      const [sha = '', type, size] = line.split(' ')
      return type === 'commit' && Number(size) <= LARGEST_COMMIT ? [sha] : []
    })
  const commits = await mapConcurrently(small, AT_ONCE, async (sha): Promise<[string, FoundCommit]> => {
    return [sha, parseCommit(await git.run(['cat-file', 'commit', sha], local))]
  })
  return new Map(commits)
}
