import { posix } from 'node:path'
import type { ContextEntry } from '../source/source.ts'
import { compileGlob } from '../util/glob.ts'
import { Turns } from '../util/turns.ts'

/** What BuildKit wants of a context. Null, as none at all, is everything. */
export interface WantedPaths {
  /** Paths as COPY and ADD name them, wildcards included: what symlinks on the way lead to belongs to them. */
  follow: readonly string[] | null
  /** Patterns as .dockerignore has them, `**` included (`COPY --parents`). */
  include: readonly string[] | null
}

/** How long comparing may take, in milliseconds; then everything is sent rather than that builds wait. */
const LIMIT_MS = 1000
/** As many symlinks as Linux follows in one path, for each that is named. */
const MAX_LINKS = 40

/**
 * The entries that BuildKit wants, in the same order: what matches, all that is below it, and the directories
 * above. By the rules of its own client (FollowLinks and NewFilterFS of github.com/tonistiigi/fsutil).
 */
export async function selectEntries(
  entries: ContextEntry[],
  { follow, include }: WantedPaths,
): Promise<ContextEntry[]> {
  if (follow === null || include === null) return entries
  if (follow.length === 0 && include.length === 0) return entries
  const turns = new Turns(LIMIT_MS)
  const resolved = await followLinks(entries, follow, turns)
  // Docker's matcher does not keep blanks around a pattern, so that it finds no name that begins or ends with one.
  const patterns = [...include, ...resolved].map((pattern) => pattern.trim())
  if (patterns.includes('.')) return entries
  const selected = await matching(entries, patterns, turns)
  return turns.over ? entries : selected
}

/** Like fsutil's FollowLinks: the paths themselves, and where symlinks lead; of wildcards, the last part alone is followed. */
async function followLinks(
  entries: ContextEntry[],
  paths: readonly string[],
  turns: Turns,
): Promise<Set<string>> {
  const tree = new Tree(entries, turns)
  const resolved = new Set<string>()
  for (const path of paths) await follow(path, 0)

  async function follow(path: string, links: number): Promise<void> {
    let current = '.'
    const parts = within(path).split('/')
    for (const [index, part] of parts.entries()) {
      if (await turns.take()) return
      current = posix.join(current, part)
      const isLast = index === parts.length - 1
      if (isLast && resolved.has(current)) return
      const targets = await tree.targets(current)
      if (targets && resolved.has(current)) return
      if (isLast || targets) resolved.add(current)
      if (!targets) continue
      const rest = parts.slice(index + 1).join('/')
      if (links < MAX_LINKS) for (const target of targets) await follow(posix.join(target, rest), links + 1)
      return
    }
  }

  return resolved
}

/** Finds entries by their path, and what is in a directory. */
class Tree {
  readonly #entries: readonly ContextEntry[]
  readonly #byPath: Map<string, ContextEntry>
  readonly #turns: Turns
  #children: Map<string, ContextEntry[]> | undefined

  constructor(entries: readonly ContextEntry[], turns: Turns) {
    this.#entries = entries
    this.#turns = turns
    this.#byPath = new Map(entries.map((entry) => [entry.path, entry]))
  }

  /** Where the symlinks lead that a path stands for; null when it stands for none. */
  async targets(path: string): Promise<string[] | null> {
    const name = posix.basename(path)
    const found = hasWildcards(name)
      ? await this.#matches(posix.dirname(path), name)
      : [this.#byPath.get(path)]
    const links = found.filter((entry) => entry?.kind === 'symlink')
    return links.length > 0 ? links.map((link) => targetOf(link as ContextEntry)) : null
  }

  async #matches(directory: string, pattern: string): Promise<ContextEntry[]> {
    const matches = compileGlob(pattern)
    const found: ContextEntry[] = []
    if (!matches) return found
    for (const entry of this.#in(directory)) {
      // What is no symlink is not followed.
      if (entry.kind === 'symlink' && matches(posix.basename(entry.path))) found.push(entry)
      if (this.#turns.due && (await this.#turns.take())) break
    }
    return found
  }

  #in(directory: string): ContextEntry[] {
    if (!this.#children) {
      this.#children = new Map()
      for (const entry of this.#entries) {
        const parent = posix.dirname(entry.path)
        const siblings = this.#children.get(parent)
        if (siblings) siblings.push(entry)
        else this.#children.set(parent, [entry])
      }
    }
    return this.#children.get(directory) ?? []
  }
}

/** In the context, which nothing leads out of. */
function targetOf(link: ContextEntry): string {
  const target = Buffer.from(link.linkTarget).toString()
  return posix.join('/', target.startsWith('/') ? target : posix.join(posix.dirname(link.path), target))
}

/** A path from the context's root, without a slash before or after it; `.` for the root itself. */
function within(path: string): string {
  return posix.join(
    '.',
    posix
      .join('/', path)
      .replace(/(?<=.)\/$/, '')
      .slice(1),
  )
}

/** What one of the patterns matches, with all below it and the directories above. */
async function matching(
  entries: ContextEntry[],
  patterns: readonly string[],
  turns: Turns,
): Promise<ContextEntry[]> {
  const literal = new Set(patterns.filter((pattern) => !isPattern(pattern)))
  const globs = patterns.filter(isPattern).map(compileGlob)
  // Versions differ in what is malformed (`[-]`). Where it is, BuildKit says so itself.
  if (!globs.every((matches) => matches !== null)) return entries
  const wanted = new Set<ContextEntry>()
  /** The directories from the root to the entry at hand, and whether all that is in them is wanted. */
  const above: { entry: ContextEntry; prefix: string; whole: boolean }[] = []
  for (const entry of entries) {
    while (above.length > 0 && !entry.path.startsWith(above.at(-1)?.prefix ?? '')) above.pop()
    const { path } = entry
    let whole = above.at(-1)?.whole || literal.has(path)
    for (const matches of whole ? [] : globs) {
      if (turns.due && (await turns.take())) return entries
      whole = matches(path)
      if (whole) break
    }
    if (whole) {
      for (const directory of above) wanted.add(directory.entry)
      wanted.add(entry)
    }
    if (entry.kind === 'directory') above.push({ entry, prefix: `${path}/`, whole })
  }
  return entries.filter((entry) => wanted.has(entry))
}

/** As Go's filepath.Match has them. */
function hasWildcards(name: string): boolean {
  return /[*?[]/.test(name.replace(/\\./gs, ''))
}

/** Whether a pattern means more than itself; a backslash does. */
function isPattern(pattern: string): boolean {
  return /[*?[\\]/.test(pattern)
}
