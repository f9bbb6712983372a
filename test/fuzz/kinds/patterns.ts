import { Metadata } from '@grpc/grpc-js'
import { entriesKey } from '../../../src/lib/buildkit/session/file-times.ts'
import { selectEntries } from '../../../src/lib/buildkit/session/follow-paths.ts'
import { excludedPatterns, wantedPaths } from '../../../src/lib/buildkit/session/wanted-paths.ts'
import { parseDockerignore } from '../../../src/lib/source/context/dockerignore.ts'
import { entriesWithout, listEntries } from '../../../src/lib/source/context/entries.ts'
import type { TreeFile } from '../../../src/lib/source/context/git-tree.ts'
import { Pace } from '../../../src/lib/util/pace.ts'
import type { Chance } from '../generate/chance.ts'
import { mutated, ODD, textOf } from '../generate/mutate.ts'
import { excerpt, type Kind, mayRefuse, plain } from '../kind.ts'

/** The maximum size of an ignore file: see MAX_IGNORE_FILE. */
const LONGEST = 1 << 20
/** gRPC's limit of headers: see session.ts. Each counts as its length plus 32 bytes. */
const HEADER_BYTES = 1 << 20

const NAMES = [
  'a',
  'b',
  'src',
  'node_modules',
  'x.ts',
  '.git',
  'Dockerfile',
  'A',
  'é',
  '😀',
  'a, b',
  '[a]',
  'a*',
  ' x',
  '\ufffd',
]
const PIECES = [
  ...[
    '*',
    '**',
    '?',
    '[a-c]',
    '[^a]',
    '[',
    ']',
    '[]',
    '[^]',
    '[a-]',
    '[*]',
    '[?x]',
    '[z-a]',
    '[😀-😂]',
    '[\\]]',
    '\\',
    '\\d',
    '\\W',
  ],
  ...[
    '/',
    '//',
    '..',
    '.',
    './',
    '../',
    '/**/',
    '**/',
    '!',
    '#',
    ' ',
    '\n',
    '\n!',
    '\r\n',
    '^',
    '\ufeff',
    ...NAMES,
  ],
]

/** Ignore files, and sources of COPY, against trees. */
export const patternsKind: Kind = {
  share: 12,
  least: 200,
  parsers: [
    ...[
      'source/context/dockerignore.ts',
      'source/context/entries.ts',
      'buildkit/session/follow-paths.ts',
      'buildkit/session/wanted-paths.ts',
    ],
    ...[
      'util/glob/glob.ts',
      'util/glob/steps.ts',
      'util/glob/nfa.ts',
      'util/glob/affixes.ts',
      'util/glob/pattern-set.ts',
      'util/glob/below.ts',
    ],
  ],
  open: plain((chance) => {
    const files = drawFiles(chance)
    const ignore = drawIgnoreFile(chance)
    const wanted = drawWanted(chance)
    return {
      shown: () =>
        `${excerpt(ignore)}, ${excerpt(JSON.stringify(wanted.getMap()))}, ${files.map(({ path }) => excerpt(path)).slice(0, 40)}`,
      run: () =>
        mayRefuse(async () => {
          const pace = new Pace()
          const dockerignore = await parseDockerignore(ignore, undefined, pace)
          const listed = await listEntries(files, dockerignore, pace)
          const kept = new Set(listed.files)
          const wrong = files.slice(0, 10).find((file) => dockerignore.excludes(file.path) === kept.has(file))
          if (wrong) throw new Error(`the walk and the single path disagree about ${wrong.path}`)
          const links = new Map(files.map((file) => [file, Buffer.from(file.oid)]))
          const entries = await listed.entries(new Map(), links)
          const all = await (await listEntries(files, undefined, pace)).entries(new Map(), links)
          const without = await entriesWithout(all, dockerignore.lines, undefined)
          if ((await entriesKey(without)) !== (await entriesKey(entries)))
            throw new Error('what is excluded later differs from what is not listed')
          for (const some of [entries, all]) await selectEntries(some, wantedPaths(wanted, some))
          await entriesWithout(all, excludedPatterns(wanted), undefined)
        }),
    }
  }),
}

/** Files of a tree in the order of a walk; the id of a symlink is its target. */
function drawFiles(chance: Chance): TreeFile[] {
  const folders = ['', ...chance.times(0, 4, () => `${drawPath(chance)}/`)]
  const names = chance.percent(2)
    ? [chance.one(['a', 'ab', 'é', '/a', '.a/']).repeat(chance.whole(100, 4000)).slice(0, 4000)]
    : NAMES
  const paths = chance.times(1, 30, () => `${chance.one(folders)}${chance.one(names)}`)
  if (chance.percent(0.3))
    for (let at = chance.whole(0, 2000); at > 0; at -= 1) paths.push(`${chance.one(folders)}f${at}`)
  const found = new Map<string, TreeFile>()
  for (const path of paths.map(within).filter((one) => one !== '')) {
    // A file cannot be a folder, too.
    if (
      [...found.keys()].some(
        (other) => paths.length < 100 && (other.startsWith(`${path}/`) || path.startsWith(`${other}/`)),
      )
    )
      continue
    const kind = chance.percent(25) ? 'symlink' : 'file'
    const oid =
      kind === 'symlink'
        ? chance.one(['/', '..', '.', `/${chance.one(paths)}`, `../${chance.one(NAMES)}`, drawPath(chance)])
        : 'x'
    found.set(path, { path, rawPath: Buffer.from(path), kind, oid, size: 1 })
  }
  const key = ({ path }: TreeFile) => path.replaceAll('/', '\0')
  return [...found.values()].sort((a, b) => Buffer.compare(Buffer.from(key(a)), Buffer.from(key(b))))
}

function within(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.' && part !== '..')
    .join('/')
}

function drawPath(chance: Chance): string {
  return chance.times(1, 4, () => chance.one(NAMES)).join('/')
}

function drawPattern(chance: Chance): string {
  const text = chance.percent(50) ? chance.times(1, 5, () => chance.one(PIECES)).join('') : drawPath(chance)
  return chance.percent(25) ? mutated(chance, text, PIECES) : text
}

function drawIgnoreFile(chance: Chance): string {
  if (chance.percent(0.3)) return filled(chance, LONGEST, (text) => `${text}\n`)
  if (chance.percent(10)) return textOf(chance, PIECES, chance.size(2000))
  const most = chance.percent(5) ? 300 : 12
  return chance.times(0, most, () => `${chance.percent(25) ? '!' : ''}${drawPattern(chance)}\n`).join('')
}

/** A great many different patterns, or a very long one. */
function filled(chance: Chance, bytes: number, line: (text: string) => string): string {
  const [before, after] = [chance.one(PIECES), chance.one(PIECES)]
  const one = chance.one([
    () => mutated(chance, drawPattern(chance), PIECES),
    (at: number) => `${before}${at}${after}`,
    (at: number) => `*?${at}*`,
    (at: number) => `**/${at}?*`,
    (at: number) => `${at % 2 ? '!' : ''}${before}${at.toString(36)}`,
  ])
  if (chance.percent(30)) {
    const piece = chance.one([...PIECES, '*a', '?', 'a/../', '[a]', '**/a', 'a/'])
    return line(piece.repeat(Math.floor(bytes / piece.length)))
  }
  const lines: string[] = []
  for (let left = bytes, at = 0; left > 0; at += 1) {
    const text = line(one(at))
    lines.push(text)
    left -= text.length
  }
  return lines.join('').slice(0, bytes)
}

/** The headers in which BuildKit requests parts of a context. */
function drawWanted(chance: Chance): Metadata {
  const metadata = new Metadata()
  for (const key of ['followpaths', 'include-patterns', 'exclude-patterns']) {
    const encoded = chance.percent(30)
    const long = chance.percent(0.2)
    const most = chance.percent(5) ? 80 : 6
    const values = long
      ? filled(chance, HEADER_BYTES / 4, (text) => `${text}\n`).split('\n')
      : chance.times(0, most, () => drawPattern(chance))
    let left = HEADER_BYTES
    for (const value of values) {
      const header = encoded ? encodeURIComponent(value.toWellFormed()) : value.replace(/[^ -~]/g, '')
      left -= header.length + key.length + 32
      if (left > 0)
        metadata.add(
          key,
          chance.percent(2) ? `${header}%zz, ${chance.one(ODD).replace(/[^ -~]/g, '')}` : header,
        )
    }
    if (encoded) metadata.add(`${key}-encoded`, '1')
  }
  return metadata
}
