import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { projectRoot } from '../support/processes.ts'
import { BUILDERS, type BuilderName } from './surroundings.ts'

/** A fault that Conveyor once had, or almost had, injected into a copy of its source. */
export interface Mutant {
  name: string
  /** Its effect. */
  fault: string
  /** The builders that show it; all by default. */
  builders?: readonly BuilderName[]
  /** In files of src/lib: the original text, which occurs once, and its replacement. */
  changes: { file: string; from: string; to: string }[]
}

const TIMES = 'buildkit/session/file-times.ts'
const PATHS = 'buildkit/session/follow-paths.ts'
const WANTED = 'buildkit/session/wanted-paths.ts'
const SYNC = 'buildkit/session/file-sync.ts'
const NEW: readonly BuilderName[] = ['containerd', 'buildkitd']
const COMPILED = '    const glob = compileGlob(pattern)\n'
/** Matches by an `expression` over `pattern`, `path` and the correct `matches`. */
const compiled = (expression: string) =>
  `    const right = compileGlob(pattern)
    const matches = (path: string) => right?.matches(path) ?? false
    const wrong = (path: string) => ${expression}
    const glob = right && { head: '', tail: '', literal: false, matches: (path: string) => (matches(path), wrong(path)) }\n`

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'one-old-time',
    fault: 'all files have the same old time, and only their nanoseconds differ',
    changes: [
      {
        file: TIMES,
        from: 'return this.#keptTime(entry) !== null',
        to: 'return this.now < 0n && this.#keptTime(entry) !== null',
      },
      {
        file: TIMES,
        from: '    return this.#keptTime(entry) ?? this.now',
        to: "    return 315_532_800n * 1_000_000_000n + BigInt(Number.parseInt(entry.contentId.replace(/^sha256:/, '').slice(0, 12) || '0', 16) % 1_000_000_000)",
      },
    ],
  },
  {
    name: 'time-of-content',
    fault: 'a revert to earlier content has the time of that content',
    changes: [
      {
        file: TIMES,
        from: '        entries.set(entry, { id, kept: same?.times[same.indexes.get(id) ?? -1] ?? null })',
        to: '        const first = ((globalThis as { first?: Map<string, bigint> }).first ??= new Map())\n        if (!first.has(id + basis)) first.set(id + basis, now)\n        const time = first.get(id + basis) ?? now\n        entries.set(entry, { id, kept: time === now ? null : time })\n        void same',
      },
    ],
  },
  {
    name: 'same-after-dockerfile',
    fault: 'a changed Dockerfile does not give files a new time',
    changes: [{ file: TIMES, from: 'last && key?.equals(last.basis) ? last : null', to: 'last' }],
  },
  {
    name: 'same-on-another-base',
    fault: 'a moved base image does not give files a new time',
    changes: [
      {
        file: 'pipeline/cache/inputs-key.ts',
        from: 'settingsKey(settings), digests])',
        to: 'settingsKey(settings), digests.length])',
      },
    ],
  },
  {
    name: 'dummies-stay',
    fault: 'unchanged sources stay older than files that a step before COPY created in their place',
    changes: [
      {
        file: 'builder/context-sync.ts',
        from: 'const isKnown = !this.#isOutdated && !isOutdated(progress)',
        to: 'const isKnown = true',
      },
    ],
  },
  {
    name: 'no-hidden-files',
    fault: 'wildcards do not match names that begin with a dot',
    changes: [
      {
        file: PATHS,
        from: COMPILED,
        to: compiled('!/(^|\\/)\\./.test(path) && matches(path)'),
      },
    ],
  },
  {
    name: 'parentheses',
    fault: 'parentheses in a pattern are treated as an extended glob',
    changes: [
      {
        file: PATHS,
        from: COMPILED,
        to: compiled("pattern.includes('(') ? posix.matchesGlob(path, pattern) : matches(path)"),
      },
    ],
  },
  {
    name: 'node-globs',
    fault: "patterns are matched by Node's own globs",
    changes: [
      {
        file: PATHS,
        from: COMPILED,
        to: compiled('posix.matchesGlob(path, pattern)'),
      },
    ],
  },
  {
    name: 'not-unescaped',
    fault: 'escaped names outside ASCII are not decoded',
    builders: NEW,
    changes: [
      {
        file: WANTED,
        from: "-encoded`)[0] === '1'",
        to: "-encoded`)[0] === 'never'",
      },
    ],
  },
  {
    name: 'commas-split',
    fault: 'a path with a comma among other paths is split in two and not found',
    changes: [
      {
        file: WANTED,
        from: '  if (all.length < 2 || !(isSplit || entries.some(({ path }) => path.includes(SEPARATOR))))\n',
        to: '  void isSplit\n  void entries\n  if (all.length >= 0)\n',
      },
    ],
  },
  {
    name: 'converted-hang',
    fault: 'converted files are never sent, and the build waits until it times out',
    changes: [
      {
        file: SYNC,
        from: '    transfer.files++\n',
        to: "    if (entry.contentId.startsWith('sha256:')) await new Promise(() => {})\n    transfer.files++\n",
      },
    ],
  },
  {
    name: 'converted-number',
    fault: 'the time of a converted file is not a number',
    changes: [
      {
        file: SYNC,
        from: 'modTime: time,',
        to: "modTime: entry.contentId.startsWith('sha256:') ? BigInt(Number.parseInt(entry.contentId, 16)) : time,",
      },
    ],
  },
]

export function mutantsOf(builder: BuilderName): Mutant[] {
  return MUTANTS.filter(({ builders = BUILDERS }) => builders.includes(builder))
}

/**
 * Copies this project's source and injects the fault; resolves to the `src` of the copy.
 * @throws Error if the source no longer contains the original text
 */
export async function mutate({ name, changes }: Mutant, folder: string): Promise<string> {
  const src = join(folder, 'src')
  await mkdir(folder, { recursive: true })
  await cp(join(projectRoot, 'src'), src, { recursive: true })
  for (const needed of ['node_modules', 'package.json'])
    await symlink(join(projectRoot, needed), join(folder, needed))
  for (const { file, from, to } of changes) {
    const path = join(src, 'lib', file)
    const text = await readFile(path, 'utf8')
    if (text.split(from).length !== 2)
      throw new Error(
        `the fault ${name} no longer applies to src/lib/${file}, which does not contain\n${from}`,
      )
    await writeFile(
      path,
      text.replace(from, () => to),
    )
  }
  return src
}
