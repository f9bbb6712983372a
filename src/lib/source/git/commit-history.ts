import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { FetchOptions } from '../source.ts'
import { ensureBare } from './bare.ts'
import { type CommitPack, type LocalGit, readLines, splitCommits } from './commit-packs.ts'
import { isDamage } from './errors.ts'
import { type Git, GitFailure, type GitOptions } from './git.ts'
import { OFFLINE } from './history.ts'
import { Mirror, statOrNull } from './mirror.ts'
import { lockMirror } from './mirror-lock.ts'
import { remoteQuery } from './query.ts'
import type { Remote } from './remote.ts'

/** A tag whose commit is in the history. */
interface HistoryTag {
  /** `refs/tags/v1` */
  ref: string
  /** Of the tag object, or of the commit for a lightweight tag. */
  oid: string
}

/** The commits that lead to a commit, which is one of them, and their tags. */
export interface CommitHistory {
  /** A bare repository that has them, but no trees and files. */
  gitDir: string
  /** Sorted by ref. */
  tags: HistoryTag[]
  /** Ids of the annotated tags' objects. */
  tagObjects: string[]
  /** A pack with most of the commits, which seldom changes; in place for an hour. Null if there are only a few. */
  base: CommitPack | null
  /** Ids of the other commits. */
  recent: string[]
  /** Root trees of the commit's parents, which `git show` needs; they, and all below, are here or in the mirror. */
  parentTrees: string[]
}

interface Options extends Pick<FetchOptions, 'signal' | 'log' | 'offline'> {
  git: Git
  remote: Remote
  repository: string
  /** Path of the repository without `.git`. */
  path: string
  /** The mirror that has the commit's files. */
  mirrorDir: string
  /** Folder for temporary files, and for files of ssh. */
  dir: string
  silenceMs: number
}

/** A history is fetched in one piece, however long it is; a stalled transfer ends earlier. */
const LIMIT_MS = 30 * 60_000
const COMMITS = 'refs/conveyor/commits'
const TREES = 'refs/conveyor/trees'
const TAG_OBJECTS = 'refs/conveyor/tags'
/** File with the tags as the server listed them last. */
const TAGS = 'conveyor-tags'
/** Packs, one for each fetch, above which they are packed together. */
const MOST_PACKS = 50

/**
 * Fetches the history of a commit, without trees and files, and looks up the tags as they are now.
 * @throws ConveyorError as `fetch`
 */
export async function commitHistory(sha: string, options: Options): Promise<CommitHistory> {
  const { path, git, signal, offline, repository } = options
  const local: LocalGit = { git, gitDir: `${path}.git`, signal }
  try {
    if (offline) return await readHistory(local, sha, null, options)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await using lock = await lockMirror(git, `${path}.lock`, signal)
    return await readHistory(local, sha, lock.fd, options)
  } catch (error) {
    signal?.throwIfAborted()
    const name = shortName({ repository, sha })
    if (offline) throw new ConveyorError('not_found', `the history of ${name} is not here`, { cause: error })
    const isCorrupt = error instanceof GitFailure || (error instanceof ConveyorError && isDamage(error.cause))
    if (!isCorrupt) throw error
    await rm(local.gitDir, { recursive: true, force: true })
    throw new ConveyorError('unavailable', `the local history of ${name} is corrupt`, {
      hint: 'Retry: it will be fetched again',
      cause: error,
    })
  }
}

interface FoundTag extends HistoryTag {
  commit: string
}

/** @param holdFd the lock of the folder; null: nothing is fetched */
async function readHistory(
  local: LocalGit,
  sha: string,
  holdFd: number | null,
  options: Options,
): Promise<CommitHistory> {
  const { gitDir } = local
  const server = holdFd === null ? null : serverOf(local, holdFd, options)
  if (server) await ensureBare(options.git, gitDir, sha, options.dir)
  // Neither needs the other.
  const [, listed] = await both(
    server?.fetchCommits(sha),
    server ? server.listTags() : readFile(join(gitDir, TAGS), 'utf8'),
  )
  const parentTrees = await parentTreesOf(local, sha, options)
  const missing = await filterMissing(
    local,
    TREES,
    parentTrees.filter(({ isMirrored }) => !isMirrored),
  )
  const [, commits] = await both(
    missing.length > 0 ? server?.fetchTrees(missing) : undefined,
    splitCommits(local, sha),
  )
  const tags = await reachable(tagsIn(listed), commits)
  const annotated = tags.filter(isAnnotated)
  const news = await filterMissing(local, TAG_OBJECTS, annotated)
  if (news.length > 0) await server?.fetchTags(news)
  if (server) await server.finish(listed)
  return {
    ...{ gitDir, ...commits, tags: tags.map(({ ref, oid }) => ({ ref, oid })) },
    ...{ tagObjects: await tagObjects(local, annotated), parentTrees: parentTrees.map(({ oid }) => oid) },
  }
}

/** Both results, or the first error, but not before both have ended. */
async function both<A, B>(first: A | Promise<A>, second: B | Promise<B>): Promise<[A, B]> {
  const all = [first, second] as const
  await Promise.allSettled(all)
  return Promise.all(all)
}

/** What is asked of the git server. */
function serverOf(local: LocalGit, holdFd: number, options: Options) {
  const { git, gitDir, signal } = local
  const { remote, repository, dir, silenceMs, log } = options
  const url = remote.url(repository)
  const ask = async (action: string, args: string[], { input = '', config = [] }: GitOptions = {}) => {
    const about = { repository, action, signal, limitMs: LIMIT_MS }
    const how = { gitDir, silenceMs, holdFd, input }
    return remoteQuery(remote, dir)(about, (connection) =>
      git.run(args, { ...connection, ...how, config: [...(connection.config ?? []), ...config] }),
    )
  }
  return {
    async fetchCommits(sha: string): Promise<void> {
      if (await statOrNull(join(gitDir, COMMITS, sha))) return
      log?.(`fetching the history of ${shortName({ repository, sha })} from ${remote.host}`)
      // Without `refs/tags/*`: a tag may be of a tree, which would be missing.
      const input = refspecsTo(COMMITS, [{ oid: sha }])
      await ask(`fetch the history of ${sha.slice(0, 7)}`, FETCH(url), { input })
    },
    async listTags(): Promise<string> {
      return (await ask('list the tags', ['ls-remote', '--tags', '--', url])).toString('utf8')
    },
    async fetchTrees(trees: { oid: string }[]): Promise<void> {
      // The server would assume that we have the trees of our commits.
      const how = {
        input: refspecsTo(TREES, trees),
        config: [['fetch.negotiationAlgorithm', 'noop']] as const,
      }
      await ask('fetch the folders', FETCH(url, 'blob:none'), how)
    },
    async fetchTags(tags: { oid: string }[]): Promise<void> {
      await ask('fetch the tags', FETCH(url), { input: refspecsTo(TAG_OBJECTS, tags) })
    },
    /** Keeps the tags for builds without a network. */
    async finish(listed: string): Promise<void> {
      const temporary = join(gitDir, randomUUID())
      await writeFile(temporary, listed)
      await rename(temporary, join(gitDir, TAGS))
      await tidy(local, holdFd)
    },
  }
}

const FETCH = (url: string, filter = 'tree:0') => [
  ...['fetch', `--filter=${filter}`, '--no-tags', '--no-write-fetch-head', '--no-auto-maintenance'],
  ...['--progress', '--stdin', '--end-of-options', url],
]

const refspecsTo = (folder: string, objects: { oid: string }[]) =>
  objects.map(({ oid }) => `+${oid}:${folder}/${oid}\n`).join('')

async function filterMissing<T extends { oid: string }>(
  { gitDir }: LocalGit,
  folder: string,
  objects: T[],
): Promise<T[]> {
  const there = new Set(await readdir(join(gitDir, folder)).catch(() => []))
  return objects.filter(({ oid }) => !there.has(oid))
}

/** Where a parent was built, too, as most have been, its mirror has all of its trees. */
async function parentTreesOf(
  local: LocalGit,
  sha: string,
  { git, mirrorDir }: Options,
): Promise<{ oid: string; isMirrored: boolean }[]> {
  const parents = await readLines(local, ['rev-parse', `${sha}^@`])
  const mirror = new Mirror(git, mirrorDir)
  const found = await Promise.all(parents.map((parent) => mirror.find(parent).catch(() => null)))
  const others = parents.filter((_, i) => !found[i])
  const args = ['log', '--no-walk=unsorted', '--format=%T', ...others]
  const trees = others.length === 0 ? [] : await readLines(local, args)
  return found.map((facts) => ({ oid: facts?.tree ?? trees.shift() ?? '', isMirrored: facts !== null }))
}

/** Forgets the commits that were fetched first, and joins packs. */
async function tidy({ git, gitDir, signal }: LocalGit, holdFd: number): Promise<void> {
  const packs = (await readdir(join(gitDir, 'objects/pack'))).filter((name) => name.endsWith('.pack'))
  if (packs.length <= MOST_PACKS) return
  const how = { gitDir, env: OFFLINE, holdFd, signal }
  for (const folder of [COMMITS, TREES]) {
    const names = await readdir(join(gitDir, folder)).catch(() => [])
    const known = await Promise.all(
      names.map(async (name) => ({ name, at: (await stat(join(gitDir, folder, name))).mtimeMs })),
    )
    const old = known.sort((a, b) => b.at - a.at).slice(MOST_PACKS)
    const input = old.map(({ name }) => `delete ${folder}/${name}\n`).join('')
    await git.run(['update-ref', '--stdin'], { ...how, input })
  }
  await git.run(['repack', '-a', '-d', '-q'], how)
}

/** The tags that lead to one of these commits, sorted by ref. */
async function reachable(
  tags: FoundTag[],
  { base, recent }: Pick<CommitHistory, 'base' | 'recent'>,
): Promise<FoundTag[]> {
  const news = new Set(recent)
  const others = tags.flatMap(({ commit }) => (news.has(commit) ? [] : [commit]))
  const old = await base?.having(others)
  return tags
    .filter(({ commit }) => news.has(commit) || old?.has(commit))
    .sort((a, b) => compare(a.ref, b.ref))
}

function tagsIn(listed: string): FoundTag[] {
  const tags = new Map<string, FoundTag>()
  for (const line of listed.split('\n')) {
    const [oid = '', name = ''] = line.split('\t')
    // `REF^{}` is what an annotated tag leads to.
    const ref = name.replace(/\^\{\}$/, '')
    if (ref !== name) tags.set(ref, { ref, oid: tags.get(ref)?.oid ?? oid, commit: oid })
    else if (name !== '') tags.set(ref, { ref, oid, commit: oid })
  }
  return [...tags.values()]
}

/** By bytes, as git sorts refs. */
function compare(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

function isAnnotated({ oid, commit }: FoundTag): boolean {
  return oid !== commit
}

/** The objects of annotated tags, and those in between for tags of tags. */
async function tagObjects(local: LocalGit, annotated: FoundTag[]): Promise<string[]> {
  const read = async (...args: string[]) =>
    (await local.git.run(args, { ...local, env: OFFLINE })).toString('latin1').split('\n')
  const wanted = new Set(annotated.map(({ oid }) => oid))
  const all = new Set(wanted)
  if (wanted.size === 0) return []
  for (const line of await read('for-each-ref', '--format=%(objectname) %(type) %(object)', TAG_OBJECTS)) {
    let [oid = '', type, inner] = line.split(' ')
    if (!wanted.has(oid)) continue
    while (type === 'tag' && inner) {
      all.add(inner)
      const object = await read('cat-file', 'tag', inner)
      const field = (name: string) => object.find((one) => one.startsWith(`${name} `))?.slice(name.length + 1)
      oid = inner
      ;[type, inner] = [field('type'), field('object')]
    }
  }
  return [...all].sort()
}
