import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { shortName } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { Pace } from '../../util/pace.ts'
import type { FetchOptions } from '../source.ts'
import { isDamage } from './errors.ts'
import { type Git, GitFailure, type GitOptions } from './git.ts'
import { OFFLINE } from './history.ts'
import { statOrNull } from './mirror.ts'
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
  /** Ids of the commits, in two parts: the second grows with each commit, the first seldom changes. */
  commits: [base: string[], recent: string[]]
  /** Root trees of the commit's parents, which `git show` needs; with all trees below, but no files. */
  parentTrees: string[]
}

interface Options extends Pick<FetchOptions, 'signal' | 'log' | 'offline'> {
  git: Git
  remote: Remote
  repository: string
  /** Path of the repository without `.git`. */
  path: string
  /** Folder for temporary files, and for files of ssh. */
  dir: string
  silenceMs: number
}

/** A history is fetched in one piece, however long it is; a stalled transfer ends earlier. */
const LIMIT_MS = 30 * 60_000
/** Commits of the main line between two states of the first part. */
const STEP = 1000
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
  const local: Local = { git, gitDir: `${path}.git`, signal }
  try {
    if (!offline) {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await using lock = await lockMirror(git, `${path}.lock`, signal)
      await update(local, sha, lock.fd, options)
    }
    const commits = await commitsOf(local, sha)
    const tags = await within(await readFile(join(local.gitDir, TAGS), 'utf8'), commits, signal)
    return {
      gitDir: local.gitDir,
      tags: tags.map(({ ref, oid }) => ({ ref, oid })),
      tagObjects: await tagObjects(local, tags.filter(isAnnotated)),
      commits,
      parentTrees: await parentTrees(local, sha),
    }
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

interface Local {
  git: Git
  gitDir: string
  signal: AbortSignal | undefined
}

interface FoundTag extends HistoryTag {
  commit: string
}

async function update(local: Local, sha: string, holdFd: number, options: Options): Promise<void> {
  const { git, gitDir, signal } = local
  const { remote, repository, dir, silenceMs, log } = options
  if (!(await statOrNull(gitDir))) {
    const temporary = join(dir, '.tmp', randomUUID())
    const format = sha.length === 64 ? 'sha256' : 'sha1'
    await mkdir(dirname(temporary), { recursive: true, mode: 0o700 })
    await git.run(['init', '--quiet', '--bare', '--template=', `--object-format=${format}`, temporary])
    await rename(temporary, gitDir)
  }
  const url = remote.url(repository)
  const ask = async (action: string, args: string[], { input = '', config = [] }: GitOptions = {}) => {
    const about = { repository, action, signal, limitMs: LIMIT_MS }
    const how = { gitDir, silenceMs, holdFd, input }
    return remoteQuery(remote, dir)(about, (connection) =>
      git.run(args, { ...connection, ...how, config: [...(connection.config ?? []), ...config] }),
    )
  }
  if (!(await statOrNull(join(gitDir, COMMITS, sha)))) {
    log?.(`fetching the history of ${shortName({ repository, sha })} from ${remote.host}`)
    // Without `refs/tags/*`: a tag may be of a tree, which would be missing.
    await ask(`fetch the history of ${sha.slice(0, 7)}`, FETCH(url), {
      input: refspecsTo(COMMITS, [{ oid: sha }]),
    })
  }
  const parents = (await parentTrees(local, sha)).map((oid) => ({ oid }))
  const trees = await filterMissing(local, TREES, parents)
  if (trees.length > 0) {
    // The server would assume that we have the trees of our commits.
    const how = { input: refspecsTo(TREES, trees), config: [['fetch.negotiationAlgorithm', 'noop']] as const }
    await ask('fetch the folders', FETCH(url, 'blob:none'), how)
  }
  const listed = await ask('list the tags', ['ls-remote', '--tags', '--', url])
  // Nearly always there is no new tag, so that it need not be known which commits there are.
  const annotated = tagsIn(listed.toString('utf8')).filter(isAnnotated)
  const news = await filterMissing(local, TAG_OBJECTS, annotated)
  if (news.length > 0) {
    const wanted = await reachable(news, await commitsOf(local, sha), signal)
    if (wanted.length > 0) await ask('fetch the tags', FETCH(url), { input: refspecsTo(TAG_OBJECTS, wanted) })
  }
  const temporary = join(gitDir, randomUUID())
  await writeFile(temporary, listed)
  await rename(temporary, join(gitDir, TAGS))
  await tidy(local, holdFd)
}

const FETCH = (url: string, filter = 'tree:0') => [
  ...['fetch', `--filter=${filter}`, '--no-tags', '--no-write-fetch-head', '--no-auto-maintenance'],
  ...['--progress', '--stdin', '--end-of-options', url],
]

const refspecsTo = (folder: string, objects: { oid: string }[]) =>
  objects.map(({ oid }) => `+${oid}:${folder}/${oid}\n`).join('')

async function filterMissing<T extends { oid: string }>(
  { gitDir }: Local,
  folder: string,
  objects: T[],
): Promise<T[]> {
  const there = new Set(await readdir(join(gitDir, folder)).catch(() => []))
  return objects.filter(({ oid }) => !there.has(oid))
}

async function parentTrees(local: Local, sha: string): Promise<string[]> {
  const read = async (...args: string[]) =>
    (await local.git.run(args, { ...local, env: OFFLINE })).toString('latin1').trim().split(/\s+/)
  const [, ...parents] = await read('rev-list', '--max-count=1', '--parents', sha)
  return parents.length === 0 ? [] : read('log', '--no-walk=unsorted', '--format=%T', ...parents)
}

/** Forgets the commits that were fetched first, and joins packs. */
async function tidy({ git, gitDir, signal }: Local, holdFd: number): Promise<void> {
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

async function commitsOf(local: Local, sha: string): Promise<[base: string[], recent: string[]]> {
  const list = async (...args: string[]) => {
    const output = await local.git.run(['rev-list', ...args], { ...local, env: OFFLINE })
    return output.toString('latin1').split('\n').slice(0, -1)
  }
  const line = await list('--first-parent', sha)
  const after = Math.floor((line.length - 1) / STEP) * STEP
  const boundary = after === 0 ? undefined : line[line.length - after]
  if (boundary === undefined) return [[], await list(sha)]
  return [await list(boundary), await list(sha, `^${boundary}`)]
}

/** The tags in the output of ls-remote whose commits are among these. */
async function within(
  listed: string,
  commits: CommitHistory['commits'],
  signal: AbortSignal | undefined,
): Promise<FoundTag[]> {
  return (await reachable(tagsIn(listed), commits, signal)).sort((a, b) => compare(a.ref, b.ref))
}

async function reachable(
  tags: FoundTag[],
  commits: CommitHistory['commits'],
  signal: AbortSignal | undefined,
): Promise<FoundTag[]> {
  const tagged = new Set(tags.map(({ commit }) => commit))
  const found = new Set<string>()
  const pace = new Pace(signal)
  for (const part of commits) {
    await pace.forEach(part, (oid) => {
      if (tagged.has(oid)) found.add(oid)
    })
  }
  return tags.filter(({ commit }) => found.has(commit))
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
async function tagObjects(local: Local, annotated: FoundTag[]): Promise<string[]> {
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
