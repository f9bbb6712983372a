import { createHash } from 'node:crypto'
import { attributes, quoted } from './attributes.ts'
import { files } from './contents.ts'
import type { Draw } from './draw.ts'
import {
  type Bytes,
  directories,
  type Entry,
  FOLDER,
  hasRoom,
  LFS_OBJECTS,
  MODULES,
  NAME,
  type Tree,
  toBuffer,
  utf8,
} from './model.ts'
import { path } from './names.ts'

/** What only a clone has: submodules, and files in Git LFS. */
export interface Clones {
  pool: Bytes[]
  links: boolean
  attributes: boolean
  submodules: boolean
  lfs: boolean
}

/** Submodules may have submodules, which have none. */
const DEPTH = 2

export function addClones(draw: Draw, tree: Map<Bytes, Entry>, theme: Clones): void {
  if (theme.lfs) addLfs(draw, tree, theme)
  if (theme.submodules) addSubmodules(draw, tree, theme, DEPTH)
}

function addSubmodules(draw: Draw, tree: Map<Bytes, Entry>, theme: Clones, depth: number): void {
  for (let wanted = draw.whole(1, 3); wanted > 0; wanted--) {
    const at = draw.chance(50) ? draw.one(['lib', 'vendor/lib', 'vendor/LIB', 'a']) : path(draw, theme.pool)
    if (hasRoom(tree, at) && isPossible(at)) tree.set(at, submodule(draw, theme, depth))
  }
  describeSubmodules(draw, tree)
}

function submodule(draw: Draw, theme: Clones, depth: number): Entry {
  const tree = draw.chance(4) ? new Map<Bytes, Entry>() : files(draw, theme.pool, theme.links)
  if (theme.attributes && hasRoom(tree, '.gitattributes')) tree.set('.gitattributes', attributes(draw, tree))
  if (theme.lfs && draw.chance(50)) addLfs(draw, tree, theme)
  if (depth > 1 && draw.chance(35)) addSubmodules(draw, tree, theme, depth - 1)
  return { kind: 'submodule', module: draw.one(MODULES), tree }
}

/** Paths in the way of these would make the clone fail, and only that. */
function isPossible(at: Bytes): boolean {
  return !/^(-|\.git|dockerfile|build(\/|$)|src(\/|$)|lock)/i.test(at)
}

/** Changes a submodule's commit, repository or place, or what is said about it. */
export function changeClones(draw: Draw, tree: Map<Bytes, Entry>, theme: Clones): void {
  if (theme.lfs && draw.chance(50)) addLfs(draw, tree, theme)
  if (!theme.submodules) return
  const some = [...tree].filter(([, { kind }]) => kind === 'submodule')
  const [at, entry] = some.length > 0 ? draw.one(some) : []
  if (at === undefined || entry?.kind !== 'submodule' || draw.chance(20)) {
    addSubmodules(draw, tree, theme, DEPTH)
    return
  }
  draw.weighted<() => void>([
    [6, () => tree.set(at, { ...entry, tree: changed(draw, entry.tree, theme) })],
    [1, () => tree.set(at, { ...entry, module: draw.one(MODULES) })],
    [2, () => tree.delete(at)],
    [1, () => tree.set(at, { kind: 'file', content: 'was a submodule\n', executable: false })],
    [1, () => tree.delete('.gitmodules')],
  ])()
  if (draw.chance(85)) describeSubmodules(draw, tree)
}

function changed(draw: Draw, before: Tree, theme: Clones): Tree {
  const tree = new Map(before)
  const at = tree.size > 0 ? draw.one([...tree.keys()]) : 'none'
  if (draw.chance(40)) tree.delete(at)
  for (const [one, entry] of files(draw, theme.pool, theme.links))
    if (hasRoom(tree, one)) tree.set(one, entry)
  if (theme.lfs && draw.chance(30)) addLfs(draw, tree, theme)
  return tree
}

/** Writes `.gitmodules`, nearly as it should be. */
function describeSubmodules(draw: Draw, tree: Map<Bytes, Entry>): void {
  const there = [...tree].flatMap(([at, entry]) =>
    entry.kind === 'submodule' && draw.chance(94) ? [{ at, module: entry.module }] : [],
  )
  if (draw.chance(8)) there.push({ at: 'gone', module: draw.one(MODULES) })
  const sections = there.map(({ at, module }, index) => section(draw, at, module, index))
  if (draw.chance(10))
    sections.push(draw.one(['[core]\n\tbare = true\n', '# comment\n', '[submodule "x"]\n']))
  if (sections.length === 0) tree.delete('.gitmodules')
  else if (tree.has('.gitmodules') || hasRoom(tree, '.gitmodules'))
    tree.set('.gitmodules', { kind: 'file', content: sections.join(''), executable: draw.chance(5) })
}

function section(draw: Draw, at: Bytes, module: string, index: number): Bytes {
  const name = draw.weighted<Bytes>([
    [6, at.replaceAll('\n', '')],
    [2, `m${index}`],
    [1, `with space ${index}`],
    [1, `a.b.path.${index}`],
    [1, utf8(`Ünï/${index}`)],
  ])
  const url = draw.weighted([
    [5, `../${NAME}-${module}.git`],
    [2, `../${NAME}-${module}`],
    [1, `./../${NAME}-${module}.git`],
    [1, `../../differential/${NAME}-${module}.git/`],
    [2, `file://${FOLDER}/differential/${NAME}-${module}.git`],
    [1, `file://${FOLDER}/differential/${NAME}-${module}`],
  ])
  const more = draw.weighted([
    [14, ''],
    [2, '\tupdate = none\n'],
    [1, '\tupdate = checkout\n'],
    [1, '\tupdate = rebase\n'],
    [1, '\tshallow = true\n'],
    [1, '\tignore = all\n'],
    [1, '\tbranch = main\n'],
    [1, '\tUpdate = None\n'],
    [1, '\tactive = false\n'],
    [1, '\tfetchRecurseSubmodules = false\n'],
    [1, `[submodule "${config(name)}"]\n\tupdate = none\n`],
  ])
  return `[submodule "${config(name)}"]\n\tpath = ${configValue(at)}\n\turl = ${url}\n${more}`
}

const config = (text: Bytes) => text.replace(/["\\]/g, '\\$&')

/** As `git config` writes it. */
function configValue(text: Bytes): Bytes {
  const escaped = config(text).replaceAll('\n', '\\n').replaceAll('\t', '\\t')
  return /^[\w./-]+$/.test(text) ? text : `"${escaped}"`
}

const ATTRIBUTES = [
  ...['filter=lfs diff=lfs merge=lfs -text', 'filter=lfs', 'filter=lfs lockable', 'filter=lfs text eol=crlf'],
  ...['filter=lfs ident', 'filter=lfs text=auto eol=crlf', '-filter', '!filter', 'filter=other', 'filter'],
  ...['big', '-big', 'filter=LFS', 'filter=lfs working-tree-encoding=UTF-16LE', 'text eol=crlf', 'lockable'],
]

/** Some pointers, and a .gitattributes for them. */
function addLfs(draw: Draw, tree: Map<Bytes, Entry>, theme: Clones): void {
  for (let wanted = draw.whole(1, 4); wanted > 0; wanted--) {
    const at = draw.chance(50)
      ? path(draw, theme.pool)
      : draw.one(['a.bin', 'b c.bin', 'd/e.bin', 'd/f', 'l.txt'])
    if (hasRoom(tree, at) && !/^(dockerfile|build|src|lock|\.docker|\.git)/i.test(at))
      tree.set(at, { kind: 'file', content: pointer(draw), executable: draw.chance(15) })
  }
  const folder = draw.one(['', '', ...directories(tree).map((one) => `${one}/`)])
  const at = `${folder}.gitattributes`
  const before = tree.get(at)
  if (!before && !hasRoom(tree, at)) return
  const lines = draw.times(1, 3, () => {
    const some = draw.one([...tree.keys(), 'a.bin']).slice(folder.length) || 'a'
    const pattern = draw.one([
      '*.bin',
      '*.bin',
      '*',
      'd/**',
      '"b c.bin"',
      'b[[:space:]]c.bin',
      '/d/*',
      quoted(some),
    ])
    return `${pattern} ${draw.chance(60) ? ATTRIBUTES[0] : draw.one(ATTRIBUTES)}`
  })
  const macro = lines.some((line) => / -?big$/.test(line)) ? ['[attr]big filter=lfs -text'] : []
  const kept = before?.kind === 'file' && draw.chance(50) ? [before.content.replace(/\n$/, '')] : []
  // Those that say what a build is are not in Git LFS.
  const not = ['Dockerfile dockerfile build/app.df .dockerignore Dockerfile.dockerignore'.split(' ')].flat()
  const never = folder === '' ? not.map((one) => `/${one} !filter`) : []
  const content = [...kept, ...macro, ...lines, ...never, ''].join(draw.chance(10) ? '\r\n' : '\n')
  tree.set(at, { kind: 'file', content, executable: false })
}

function pointerTo(object: Bytes): Bytes {
  const oid = createHash('sha256').update(toBuffer(object)).digest('hex')
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${object.length}\n`
}

function pointer(draw: Draw): Bytes {
  const right = pointerTo(draw.one(LFS_OBJECTS))
  return draw.weighted([
    [24, right],
    [2, ''],
    [2, right.replaceAll('\n', '\r\n')],
    [1, right.slice(0, -1)],
    [1, `\n${right}\n`],
    [1, `${right}more x\n`],
    [1, right.replace(/size .*/, 'size -1')],
    [1, right.replace('size ', 'size +')],
    [1, right.replace(/size (.*)/, 'size 0$1')],
    [1, right.replace('sha256:', 'sha512:')],
    [1, right.replace(/sha256:.*/, (oid) => oid.toUpperCase())],
    [1, right.replace('oid ', 'oid  ')],
    [1, right.replace('git-lfs', 'hawser')],
    [1, right.replace('size', `x-size 1\nsize`)],
    [1, `${right}\n\n`],
    [1, pointerTo('')],
    [1, right + 'x '.repeat(1024)],
    [1, right.replace('\n', '\n\n')],
    [1, `\t${right}`],
    [1, right.replace('version ', 'version\t')],
    [1, 'not a pointer\n'],
  ])
}
