import { posix } from 'node:path'
import type { ContextEntry } from '../../source/source.ts'
import { belowTest } from '../../util/glob/below.ts'
import { compileGlob } from '../../util/glob/glob.ts'
import { type GroupedGlob, MAX_WORK, PatternSet } from '../../util/glob/pattern-set.ts'
import { trimSpace } from '../../util/go-text.ts'
import { Pace } from '../../util/pace.ts'

/** The paths of a context that BuildKit requests; if either list is null or both are empty, everything. */
export interface WantedPaths {
  /** Paths as in COPY and ADD, with wildcards; targets of symlinks along the path are included. */
  follow: readonly string[] | null
  /** Patterns as in .dockerignore, with `**` (`COPY --parents`). */
  include: readonly string[] | null
}

/**
 * Maximum number of comparisons: patterns times entries, with long patterns counted as several. Beyond that, everything
 * is sent rather than making builds wait.
 */
const MAX_COMPARISONS = 4_000_000
/** Characters of a pattern; paths have at most 4095 bytes. Beyond that, everything is sent. */
const MAX_PATTERN = 16_384
/** Symlinks followed per path, as in Linux. */
const MAX_LINKS = 40
/** Characters of all paths that symlinks lead to; beyond that, everything is sent. */
const MAX_FOLLOWED = 4 << 20

/**
 * The entries that BuildKit requests, in the same order: matches, everything below them, and their parent directories. By
 * the rules of BuildKit's own client (FollowLinks and NewFilterFS of github.com/tonistiigi/fsutil).
 */
export async function selectEntries(
  entries: ContextEntry[],
  { follow, include }: WantedPaths,
  signal?: AbortSignal,
): Promise<ContextEntry[]> {
  if (follow === null || include === null) return entries
  if (follow.length === 0 && include.length === 0) return entries
  const pace = new Pace(signal)
  const named = [...follow, ...include]
  if (named.some(({ length }) => length > MAX_PATTERN) || (await isTooMuch(named, entries, pace)))
    return entries
  const followed = await new Following(await Tree.of(entries, pace), pace).all(follow)
  if (!followed) return entries
  // Docker's matcher trims patterns, so it never matches names that begin or end with a blank.
  const patterns: string[] = []
  for (const some of [include, followed]) await pace.forEach(some, (one) => patterns.push(trimSpace(one)))
  if (patterns.includes('.') || (await isTooMuch(patterns, entries, pace))) return entries
  return matching(entries, patterns, pace)
}

async function isTooMuch(
  patterns: readonly string[],
  entries: readonly ContextEntry[],
  pace: Pace,
): Promise<boolean> {
  let comparisons = 0
  await pace.forEach(patterns, (pattern) => {
    if (hasWildcards(pattern)) comparisons += 1 + (pattern.length >>> 6)
  })
  return comparisons * entries.length > MAX_COMPARISONS
}

/** Like fsutil's FollowLinks: the paths themselves, and the targets of symlinks; wildcards in the last part only are followed. */
class Following {
  readonly #tree: Tree
  readonly #pace: Pace
  readonly #resolved = new Set<string>()
  #characters = 0

  constructor(tree: Tree, pace: Pace) {
    this.#tree = tree
    this.#pace = pace
  }

  /** Null if they lead to too many paths. */
  async all(paths: readonly string[]): Promise<Set<string> | null> {
    const todo = paths.map((path): PendingPath => ({ path, links: 0 })).reverse()
    for (let next = todo.pop(); next; next = todo.pop()) {
      const { link, path, links } = next
      const whole = link ? posix.join(targetOf(link), path) : path
      this.#characters += whole.length
      if (this.#characters > MAX_FOLLOWED) return null
      const further = await this.#follow(whole)
      if (further && links < MAX_LINKS) {
        const { found, rest } = further
        for (let i = found.length - 1; i >= 0; i--)
          todo.push({ link: found[i], path: rest, links: links + 1 })
      }
      if (this.#pace.isDue) await this.#pace.rest()
    }
    return this.#resolved
  }

  /** Resolves a path up to its first symlinks. Returns those, and the rest of the path. */
  async #follow(path: string): Promise<{ found: ContextEntry[]; rest: string } | null> {
    const parts = within(path).split('/')
    let current = ''
    for (const [index, part] of parts.entries()) {
      const directory = current
      current = current === '' ? part : `${current}/${part}`
      const isLast = index === parts.length - 1
      const found = await this.#tree.links(directory, part, current)
      if (!isLast && found.length === 0 && this.#tree.holds(current)) continue
      // There are no symlinks below anything but a directory.
      const whole = isLast || found.length > 0 ? current : parts.join('/')
      if (this.#resolved.has(whole)) return null
      this.#resolved.add(whole)
      return { found, rest: parts.slice(index + 1).join('/') }
    }
    return null
  }
}

/** A requested path, or the rest of a path after a symlink. */
interface PendingPath {
  link?: ContextEntry | undefined
  path: string
  links: number
}

/** Finds entries by their path, and the symlinks of a directory. */
class Tree {
  readonly #pace: Pace
  readonly #byPath = new Map<string, ContextEntry>()
  readonly #links = new Map<string, ContextEntry[]>()

  private constructor(pace: Pace) {
    this.#pace = pace
  }

  static async of(entries: readonly ContextEntry[], pace: Pace): Promise<Tree> {
    const tree = new Tree(pace)
    await pace.forEach(entries, (entry) => {
      tree.#byPath.set(entry.path, entry)
      if (entry.kind !== 'symlink') return
      const directory = entry.path.slice(0, Math.max(0, entry.path.lastIndexOf('/')))
      if (!tree.#links.get(directory)?.push(entry)) tree.#links.set(directory, [entry])
    })
    return tree
  }

  /** Whether there is such a directory, which may contain symlinks. */
  holds(path: string): boolean {
    return this.#byPath.get(path)?.kind === 'directory'
  }

  /** The symlinks that `path` matches; it consists of `directory` and `name`. */
  async links(directory: string, name: string, path: string): Promise<ContextEntry[]> {
    if (!hasWildcards(name)) {
      const entry = this.#byPath.get(path)
      return entry?.kind === 'symlink' ? [entry] : []
    }
    const all = this.#links.get(directory) ?? []
    const glob = all.length > 0 ? compileGlob(name, false) : null
    const found: ContextEntry[] = []
    await this.#pace.forEach(all, (entry) => {
      if (glob?.matches(posix.basename(entry.path))) found.push(entry)
    })
    return found
  }
}

/** The target of a symlink, which cannot leave the context. */
function targetOf(link: ContextEntry): string {
  const target = Buffer.from(link.linkTarget).toString()
  return posix.join('/', target.startsWith('/') ? target : posix.join(posix.dirname(link.path), target))
}

/** A path relative to the context's root, without leading or trailing slash; `.` for the root itself. */
function within(path: string): string {
  return posix.join(
    '.',
    posix
      .join('/', path)
      .replace(/(?<=.)\/$/, '')
      .slice(1),
  )
}

/** The entries that match a pattern, with everything below them and their parent directories. */
async function matching(
  entries: ContextEntry[],
  patterns: readonly string[],
  pace: Pace,
): Promise<ContextEntry[]> {
  const literal = new Set<string>()
  const globs: GroupedGlob[] = []
  let work = 0
  for (const pattern of patterns) {
    if (pace.isDue) await pace.rest()
    if (!isPattern(pattern)) {
      literal.add(pattern)
      continue
    }
    const glob = compileGlob(pattern)
    work += glob?.work ?? 0
    // Versions differ in what is malformed (`[-]`). If a pattern is, BuildKit reports it itself.
    if (!glob || work > MAX_WORK) return entries
    globs.push({ glob, group: 0 })
  }
  const set = await PatternSet.of(globs, 1, pace)
  let isGivenUp = false
  const isMatch = (path: string) => {
    if (literal.has(path)) return true
    isGivenUp ||= !set.ask(path)
    return set.has(0)
  }
  const mayMatchBelow = await belowTest(patterns, pace)
  /** The directory that is not walked, with a slash. */
  let skipped: string | undefined
  const wanted = new Set<ContextEntry>()
  /** The parent directories of the current entry, and whether they are requested as a whole. */
  const above: { entry: ContextEntry; prefix: string; whole: boolean }[] = []
  for (const entry of entries) {
    if (pace.isDue) await pace.rest()
    while (above.length > 0 && !entry.path.startsWith(above.at(-1)?.prefix ?? '')) above.pop()
    const { path } = entry
    if (skipped !== undefined && path.startsWith(skipped)) continue
    const whole = above.at(-1)?.whole || isMatch(path)
    if (isGivenUp) return entries
    if (whole) {
      // If a directory is included, so are its parents.
      for (let i = above.length - 1; i >= 0; i--) {
        const directory = above[i]?.entry
        if (!directory || wanted.has(directory)) break
        wanted.add(directory)
      }
      wanted.add(entry)
    }
    if (entry.kind !== 'directory') continue
    const prefix = `${path}/`
    if (whole || mayMatchBelow(path)) above.push({ entry, prefix, whole })
    else skipped = prefix
  }
  return pace.filter(entries, (entry) => wanted.has(entry))
}

/** Wildcards of Go's filepath.Match. */
function hasWildcards(name: string): boolean {
  return /[*?[]/.test(name.replace(/\\./gs, ''))
}

/** Whether a pattern is not literal; a backslash counts. */
function isPattern(pattern: string): boolean {
  return /[*?[\\]/.test(pattern)
}
