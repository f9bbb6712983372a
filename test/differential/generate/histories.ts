import fc from 'fast-check'
import { attributes, ignores } from './attributes.ts'
import { addClones, type Clones, changeClones } from './clones.ts'
import { ARCHIVES, archive, content, file, files, link } from './contents.ts'
import { dockerfile, type Topics } from './dockerfiles.ts'
import { Draw } from './draw.ts'
import {
  type BaseVersion,
  type Bytes,
  type Commit,
  directories,
  type Entry,
  expanded,
  type History,
  hasRoom,
  RUN,
  type Tree,
} from './model.ts'
import { namePool, path, type Taste } from './names.ts'
import { reductions } from './reductions.ts'
import { SOURCES } from './timed-steps.ts'

export interface HistoryOptions {
  isNew: boolean
  /** How many of a hundred have submodules, and how many Git LFS. */
  clones?: number | undefined
}

/** Any history, for builders with or without support for COPY --chmod. */
export function histories(options: HistoryOptions): fc.Arbitrary<History> {
  return new HistoryArbitrary(options)
}

/**
 * Generates with fast-check's random source, and shrinks the result: whole commits, files and instructions go first.
 */
class HistoryArbitrary extends fc.Arbitrary<History> {
  readonly #options: HistoryOptions

  constructor(options: HistoryOptions) {
    super()
    this.#options = options
  }

  override generate(random: fc.Random): fc.Value<History> {
    const { value } = fc.gen().generate(random, undefined)
    return new fc.Value(history(new Draw(value), this.#options), undefined)
  }

  override canShrinkWithoutContext(_value: unknown): _value is History {
    return true
  }

  override shrink(value: History): fc.Stream<fc.Value<History>> {
    return fc.stream(reductions(value)).map((one) => new fc.Value(one, undefined))
  }
}

/** The theme of a repository, which is the same for all its commits. */
interface Theme extends Topics, Clones {
  archives: boolean
}

/** Numbers of commits, with their weights. */
const LENGTHS: readonly (readonly [number, number])[] = [
  [2, 1],
  [3, 2],
  [4, 3],
  [3, 4],
  [2, 6],
]

function history(draw: Draw, { isNew, clones = 20 }: HistoryOptions): History {
  const times = draw.chance(35)
  const taste = times
    ? 'plain'
    : draw.weighted<Taste>([
        [2, 'plain'],
        [4, 'odd'],
        [3, 'foreign'],
      ])
  const theme: Theme = {
    pool: namePool(draw, taste),
    times,
    isNew,
    failures: !times && draw.chance(15),
    links: draw.chance(40),
    attributes: draw.chance(35),
    ignores: draw.chance(times ? 12 : 30),
    archives: draw.chance(8),
    submodules: draw.chance(clones),
    lfs: draw.chance(clones),
  }
  const commits: Commit[] = [{ tree: first(draw, theme), base: 1 }]
  const base = () => (times && draw.chance(15) ? draw.one<BaseVersion>([1, 2]) : undefined)
  const length = draw.weighted(LENGTHS)
  while (commits.length < length) {
    const trees = commits.map(({ tree }) => tree)
    commits.push({
      tree: next(draw, theme, trees),
      base: base() ?? commits.at(-1)?.base ?? 1,
      ...(draw.chance(3) ? { pruned: true } : {}),
    })
  }
  return { commits }
}

function first(draw: Draw, theme: Theme): Tree {
  const tree = files(draw, theme.pool, theme.links)
  if (theme.times) addSources(draw, tree)
  if (theme.archives) place(tree, draw.one(ARCHIVES), archive(draw))
  if (theme.attributes) addAttributes(draw, tree)
  addClones(draw, tree, theme)
  const all = expanded(tree)
  if (theme.ignores)
    addIgnores(draw, tree, draw.chance(85) ? '.dockerignore' : 'Dockerfile.dockerignore', ignores(draw, all))
  const text: Entry = { kind: 'file', content: dockerfile(draw, all, theme), executable: false }
  const name = draw.weighted([
    [18, 'Dockerfile'],
    [1, 'dockerfile'],
    [1, 'build/app.df'],
  ])
  for (const there of [...tree.keys()]) if (/^(dockerfile|build)(\/|$)/i.test(there)) tree.delete(there)
  tree.set(name, text)
  if (name === 'build/app.df')
    tree.set('Dockerfile', { kind: 'link', target: draw.one([name, `/${name}`, `./build/../${name}`]) })
  return tree
}

/** An ignore file, or a symlink to one that other tools share, whose name comes before or after the Dockerfile's. */
function addIgnores(draw: Draw, tree: Map<Bytes, Entry>, at: Bytes, entry: Entry): void {
  const target = draw.chance(25) ? draw.one(['.gitignore', '.config/x', 'Z.dockerignore', 'ignore']) : null
  place(tree, target ?? at, entry)
  if (target !== null) place(tree, at, { kind: 'link', target: draw.one([target, `/${target}`]) })
}

/** A folder of files that incremental steps build from. */
function addSources(draw: Draw, tree: Map<Bytes, Entry>): void {
  for (const there of [...tree.keys()])
    if (there === SOURCES || there.startsWith(`${SOURCES}/`)) tree.delete(there)
  const names = ['a', 'b', 'c'].slice(0, draw.whole(1, 3))
  for (const name of names)
    tree.set(`${SOURCES}/${name}`, { kind: 'file', content: sourceText(draw), executable: false })
  for (const there of [...tree.keys()]) if (there === 'lock' || there.startsWith('lock/')) tree.delete(there)
  tree.set('lock', { kind: 'file', content: `lock ${draw.whole(1, 2)}\n`, executable: false })
}

/** A few texts, but different ones in each run: results of COPY --link are cached by content alone. */
function sourceText(draw: Draw): Bytes {
  return `v${draw.whole(1, 4)} ${RUN}\n`
}

function addAttributes(draw: Draw, tree: Map<Bytes, Entry>): void {
  place(tree, '.gitattributes', attributes(draw, tree))
  const folders = directories(tree)
  if (folders.length > 0 && draw.chance(30))
    place(tree, `${draw.one(folders)}/.gitattributes`, attributes(draw, tree))
}

/** Puts an entry where no other is in its way. */
function place(tree: Map<Bytes, Entry>, at: Bytes, entry: Entry): void {
  if (tree.has(at) || hasRoom(tree, at)) tree.set(at, entry)
}

type Step = (draw: Draw, tree: Map<Bytes, Entry>, theme: Theme, earlier: readonly Tree[]) => void

const CHANGE: Step = (draw, tree, theme) => {
  const at = someFile(draw, tree)
  const entry = tree.get(at)
  if (entry?.kind !== 'file') return
  tree.set(at, {
    ...entry,
    content: theme.times && at.startsWith(SOURCES) ? sourceText(draw) : content(draw),
  })
}
const ADD: Step = (draw, tree, theme) => {
  const at =
    theme.times && draw.chance(50) ? `${SOURCES}/${draw.one(['a', 'b', 'c', 'd'])}` : path(draw, theme.pool)
  if (hasRoom(tree, at))
    tree.set(at, theme.links && draw.chance(25) ? link(draw, expanded(tree), theme.pool) : file(draw))
}
const REMOVE: Step = (draw, tree) => void tree.delete(someFile(draw, tree))
const RENAME: Step = (draw, tree, theme) => {
  const from = draw.chance(60) ? someFile(draw, tree) : draw.one([...directories(tree), someFile(draw, tree)])
  const to = path(draw, theme.pool)
  const moved = [...tree].filter(([at]) => at === from || at.startsWith(`${from}/`))
  if (moved.some(([at]) => isDockerfile(at)) || to.startsWith(`${from}/`)) return
  for (const [at] of moved) tree.delete(at)
  for (const [at, entry] of moved)
    if (hasRoom(tree, to + at.slice(from.length))) tree.set(to + at.slice(from.length), entry)
}
const MODE: Step = (draw, tree) => {
  const at = someFile(draw, tree)
  const entry = tree.get(at)
  if (entry?.kind === 'file') tree.set(at, { ...entry, executable: !entry.executable })
}
const SWAP: Step = (draw, tree, theme) => {
  const at = draw.one([someFile(draw, tree), ...directories(tree)])
  const there = [...tree.keys()].filter((one) => one === at || one.startsWith(`${at}/`))
  if (there.some((one) => isDockerfile(one) || one.startsWith(`${SOURCES}/`))) return
  for (const one of there) tree.delete(one)
  const kind = draw.one(['file', 'link', 'directory'])
  if (kind === 'directory') tree.set(`${at}/${draw.one(theme.pool)}`, file(draw))
  else tree.set(at, kind === 'link' ? link(draw, expanded(tree), theme.pool) : file(draw))
}
const REVERT: Step = (draw, tree, _theme, earlier) => {
  const back = draw.one(earlier)
  tree.clear()
  for (const [at, entry] of back) tree.set(at, entry)
}
/** Restores only parts of an earlier commit. */
const RESTORE: Step = (draw, tree, _theme, earlier) => {
  const [at, entry] = draw.one([...draw.one(earlier)])
  if (isDockerfile(at)) return
  if (tree.has(at) || hasRoom(tree, at)) tree.set(at, entry)
}
const DOCKERFILE: Step = (draw, tree, theme) => {
  const at = [...tree.keys()].find((one) => isDockerfile(one) && tree.get(one)?.kind === 'file')
  const entry = at === undefined ? undefined : tree.get(at)
  if (at === undefined || entry?.kind !== 'file') return
  const lines = entry.content.split('\n')
  const change = draw.one(['comment', 'comment', 'env', 'replace'])
  if (change === 'comment') lines.splice(2, 0, `# ${draw.whole(1, 9)}`)
  else if (change === 'env') lines.splice(2, 0, `ENV N=${draw.whole(1, 9)}`)
  const text = change === 'replace' ? dockerfile(draw, expanded(tree), theme) : lines.join('\n')
  tree.set(at, { ...entry, content: text })
}
const ATTRIBUTES: Step = (draw, tree, theme) => {
  if (theme.attributes) addAttributes(draw, tree)
}
const IGNORES: Step = (draw, tree, theme) => {
  if (theme.ignores) addIgnores(draw, tree, '.dockerignore', ignores(draw, expanded(tree)))
}
const CLONES: Step = (draw, tree, theme) => {
  if (theme.submodules || theme.lfs) changeClones(draw, tree, theme)
}
const NOTHING: Step = () => {}

const STEPS: [number, Step][] = [
  [10, CHANGE],
  [4, ADD],
  [3, REMOVE],
  [4, RENAME],
  [2, MODE],
  [3, SWAP],
  [3, REVERT],
  [3, RESTORE],
  [2, DOCKERFILE],
  [1, ATTRIBUTES],
  [1, IGNORES],
  [6, CLONES],
  [1, NOTHING],
]

function next(draw: Draw, theme: Theme, earlier: readonly Tree[]): Tree {
  const tree = new Map(earlier.at(-1))
  for (const step of draw.times(1, 3, () => draw.weighted(STEPS))) {
    step(draw, tree, theme, earlier)
  }
  return tree
}

function isDockerfile(at: Bytes): boolean {
  return /^(dockerfile|build\/app\.df)$/i.test(at)
}

/** The path of an entry that is not a Dockerfile; `none` if there is none. */
function someFile(draw: Draw, tree: Tree): Bytes {
  const others = [...tree.keys()].filter((at) => !isDockerfile(at))
  return others.length > 0 ? draw.one(others) : 'none'
}
