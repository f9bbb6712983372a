import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { Git, GitProcess } from './git.ts'
import { OFFLINE } from './history.ts'

/** A bare repository, and how to run git on it. */
export interface LocalGit {
  git: Git
  gitDir: string
  signal: AbortSignal | undefined
}

/** The same bytes from every version of git and zlib: nothing is compressed, or compared with anything else. */
const PACKING = [
  ...['pack-objects', '-q', '--threads=1', '--window=0', '--depth=0', '--compression=0'],
  ...['--no-reuse-delta', '--no-reuse-object', '--index-version=2'],
]
const PACK_CONFIG: [string, string][] = [
  ['pack.writeReverseIndex', 'false'],
  ['pack.packSizeLimit', '0'],
]
/** Commits of the main line between two bases. */
const STEP = 1000
/** Folder of the bases, each in `DEPTH-COMMIT`. */
const BASES = 'conveyor-bases'
/** What is not among this many that were used last is removed, but only when no context can still be taking it. */
const BASES_KEPT = 3
const BASE_KEPT_MS = 3600_000

/**
 * Writes objects to `folder/pack-ID.pack` and `.idx`.
 * @param oids a list, or what prints one: one in a line
 * @param alternate another repository that has some of them
 */
export async function writePack(
  { git, gitDir, signal }: LocalGit,
  oids: readonly string[] | GitProcess,
  folder: string,
  alternate?: string,
): Promise<void> {
  const args = [...PACKING, join(folder, 'pack')]
  const env = { ...OFFLINE, ...(alternate !== undefined && alternateOf(alternate)) }
  const how = { gitDir, config: PACK_CONFIG, env, signal }
  if (!('stdout' in oids)) {
    await git.run(args, { ...how, input: `${oids.join('\n')}\n` })
    return
  }
  const packing = git.start(args, how)
  packing.stdout.resume()
  try {
    await Promise.all([pipeline(oids.stdout, packing.stdin), oids.ended, packing.ended])
  } catch (error) {
    oids.stop()
    packing.stop()
    // Why a program has ended says more than that its pipe broke.
    await oids.ended
    await packing.ended
    throw error
  }
}

/** Has git find objects of another repository, too. */
export function alternateOf(gitDir: string): Record<string, string> {
  return { GIT_ALTERNATE_OBJECT_DIRECTORIES: JSON.stringify(join(gitDir, 'objects')) }
}

/** What git prints for arguments, by line, read in steps. */
export async function readLines(
  { git, gitDir, signal }: LocalGit,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<string[]> {
  const list = git.start(args, { gitDir, env: { ...OFFLINE, ...env }, signal })
  list.stdin.end()
  const lines: string[] = []
  let rest = ''
  try {
    for await (const chunk of list.stdout as AsyncIterable<Buffer>) {
      const found = (rest + chunk.toString('latin1')).split('\n')
      rest = found.pop() ?? ''
      for (const line of found) lines.push(line)
    }
  } catch (error) {
    list.stop()
    throw error
  }
  await list.ended
  return lines
}

/**
 * Splits the commits that lead to a commit in two: a base, which is the same for a thousand commits of the main line, and
 * is kept in a pack, and those after it.
 */
export async function splitCommits(
  local: LocalGit,
  sha: string,
): Promise<{ base: CommitPack | null; recent: string[] }> {
  const line = await readLines(local, ['rev-list', '--first-parent', `--max-count=${2 * STEP + 1}`, sha])
  const length = await lengthOf(local, line)
  const depth = Math.floor((length - 1) / STEP) * STEP
  const top = depth === 0 ? undefined : line[length - depth]
  if (top === undefined) return { base: null, recent: await readLines(local, ['rev-list', sha]) }
  const base = await basePack(local, depth, top)
  return { base, recent: await readLines(local, ['rev-list', sha, `^${top}`]) }
}

/** The length of the main line: counted from a base that it contains, so that git need not read all of it. */
async function lengthOf({ git, gitDir, signal }: LocalGit, line: readonly string[]): Promise<number> {
  const [sha = ''] = line
  if (line.length <= 2 * STEP) return line.length
  for (const name of await namesIn(join(gitDir, BASES))) {
    const [depth = '', top = ''] = name.split('-')
    const after = line.indexOf(top)
    if (after >= 0) return Number(depth) + after
  }
  const count = await git.run(['rev-list', '--count', '--first-parent', sha], {
    gitDir,
    env: OFFLINE,
    signal,
  })
  return Number(count.toString('latin1'))
}

/** @param top the last commit of the base, the `depth`th of the main line */
async function basePack(local: LocalGit, depth: number, top: string): Promise<CommitPack> {
  const all = join(local.gitDir, BASES)
  const folder = join(all, `${depth}-${top}`)
  if ((await namesIn(folder)).length === 0) {
    const temporary = join(all, `.${randomUUID()}`)
    await mkdir(temporary, { recursive: true })
    const { git, gitDir, signal } = local
    const list = git.start(['rev-list', top], { gitDir, env: OFFLINE, signal })
    list.stdin.end()
    await writePack(local, list, temporary)
    // Another process may have made the same.
    await rename(temporary, folder).catch(() => rm(temporary, { recursive: true, force: true }))
    await forgetBases(all)
  }
  const now = new Date()
  await utimes(folder, now, now)
  const name = (await namesIn(folder)).find((one) => one.endsWith('.idx')) ?? 'pack.idx'
  return new CommitPack(join(folder, name.slice(0, -'.idx'.length)), top.length / 2)
}

async function forgetBases(all: string): Promise<void> {
  const used = await Promise.all(
    (await namesIn(all)).map(async (name) => ({ name, at: (await stat(join(all, name))).mtimeMs })),
  )
  const old = used.sort((a, b) => b.at - a.at).slice(BASES_KEPT)
  for (const { name, at } of old) {
    if (Date.now() - at > BASE_KEPT_MS) await rm(join(all, name), { recursive: true, force: true })
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch((error) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
}

/** https://git-scm.com/docs/gitformat-pack#_version_2_pack_idx_files_support_packs_larger_than_4_gib_and */
const FANOUT_AT = 8
const OIDS_AT = FANOUT_AT + 256 * 4

/** A pack of commits. */
export class CommitPack {
  /** Path without `.pack` and `.idx`. */
  readonly path: string
  readonly #oidBytes: number

  constructor(path: string, oidBytes: number) {
    this.path = path
    this.#oidBytes = oidBytes
  }

  /** Which of these are in it; only what is needed of the index is read. */
  async having(oids: Iterable<string>): Promise<Set<string>> {
    const found = new Set<string>()
    const byFirst = Map.groupBy(new Set(oids), (oid) => Number.parseInt(oid.slice(0, 2), 16))
    if (byFirst.size === 0) return found
    await using file = await open(`${this.path}.idx`)
    const read = async (at: number, length: number) => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, at)
      return buffer.toString('hex', 0, bytesRead)
    }
    const fanout = Buffer.from(await read(FANOUT_AT, 256 * 4), 'hex')
    const width = this.#oidBytes * 2
    for (const [first, some] of byFirst) {
      const from = first === 0 ? 0 : fanout.readUInt32BE((first - 1) * 4)
      const count = fanout.readUInt32BE(first * 4) - from
      const sorted = await read(OIDS_AT + from * this.#oidBytes, count * this.#oidBytes)
      for (const oid of some) if (hasSorted(sorted, oid, width)) found.add(oid)
    }
    return found
  }
}

/** @param sorted ids of equal width, one after another */
function hasSorted(sorted: string, oid: string, width: number): boolean {
  let [low, high] = [0, sorted.length / width]
  while (low < high) {
    const middle = (low + high) >>> 1
    const one = sorted.slice(middle * width, (middle + 1) * width)
    if (one === oid) return true
    if (one < oid) low = middle + 1
    else high = middle
  }
  return false
}
