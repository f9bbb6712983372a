import { entriesKey, FileTimes } from '../../../src/lib/buildkit/session/file-times.ts'
import { gitMirrors } from '../../../src/lib/source/mirrors.ts'
import { basicEnv } from '../../support/processes.ts'
import { tempDir } from '../../support/temp.ts'
import type { Chance } from '../generate/chance.ts'
import { ForgedObjects, type Line } from '../generate/forged-objects.ts'
import { mutated, mutatedBytes, ODD } from '../generate/mutate.ts'
import { type Kind, mayRefuse, type Subject } from '../kind.ts'
import { drawDockerfile } from './dockerfile.ts'

const MODES = [
  '100644',
  '100644',
  '100644',
  '100755',
  '120000',
  '120000',
  '40000',
  '040000',
  '160000',
  '100664',
  '0',
  '777777',
  '100600',
  'x',
]
const NAMES = [
  'a',
  'b',
  'src',
  'Dockerfile',
  'dockerfile',
  '.dockerignore',
  'Dockerfile.dockerignore',
  '.gitattributes',
  '.gitmodules',
  '.lfsconfig',
  'x.ts',
  '.git',
  '.GIT',
  '..',
  '.',
  'a/b',
  '',
  'é',
  '\ufffd',
  'big.bin',
  '-x',
  'a\nb',
  'a\tb',
]
const ATTRIBUTES = [
  '* text eol=crlf\n',
  '* ident\n',
  'a working-tree-encoding=UTF-16\n',
  '*.ts filter=lfs\n',
  '* filter=lfs\n',
  '* ',
  '*.ts ',
  'a ',
  'text',
  'eol=crlf',
  'eol=lf',
  ' ident',
  ' working-tree-encoding=UTF-16',
  ' working-tree-encoding=x',
  ' filter=lfs',
  ' -text',
  ' !eol',
  '[attr]x eol=crlf',
  ' x',
  '\n',
  '"a\\',
  '**/',
]
const LINKS = [
  'a',
  '/',
  '..',
  '../../..',
  '.',
  '/Dockerfile',
  'src/a',
  'Dockerfile',
  'b',
  '',
  'x'.repeat(5000),
  'a/'.repeat(500),
  '../'.repeat(1300),
]
const LFS = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 5\n`
const BAD_LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:x\nsize 5\n'
const LFSCONFIGS = [
  ...[
    '[lfs]\nfetchinclude = a,*.ts\n',
    '[lfs]\nfetchexclude = src,!x\n',
    '[lfs]\nurl = http://127.0.0.1:1/x\n',
    '[',
  ],
  ...['[lfs]\nurl = https://elsewhere.example/\n', ''],
]
const PATTERNS = ['*\n', '!src\n', 'a\n', '**/*.ts\n', '!**/a\n', '# x\n', '[\n', '!\n', 'b/\n']

/** Git trees that git itself would never write, opened as build contexts. */
export const treeKind: Kind = {
  share: 0.8,
  least: 200,
  parsers: [
    'source/context/git-tree.ts',
    'source/context/context.ts',
    'source/context/tree-paths.ts',
    'source/context/checkout-filters.ts',
    'source/context/entries.ts',
  ],
  async open(): Promise<Subject> {
    await using resources = new AsyncDisposableStack()
    const { path } = resources.use(await tempDir('conveyor-fuzz-trees-'))
    const source = gitMirrors({
      dir: path,
      url: 'http://127.0.0.1:1/{repository}.git',
      environment: basicEnv(),
      lfs: { backoffMs: [] },
    })
    resources.defer(() => source.close())
    const objects = new ForgedObjects(`${path}/forged.git`)
    const owned = resources.move()
    return {
      draw(chance) {
        const shown: string[] = []
        const tree = drawTree(chance, objects, shown)
        const dockerfile = chance.percent(80)
          ? 'Dockerfile'
          : chance.one(['a', 'src/Dockerfile', '../x', '', '/', 'a\0b', './Dockerfile', 'x/../Dockerfile'])
        return {
          shown: () => `${dockerfile}: ${shown.join(', ').slice(0, 800)}`,
          run: () =>
            mayRefuse(async () => {
              const commit = {
                repository: 'acme/app',
                url: 'http://127.0.0.1:1/acme/app.git',
                sha: 'a'.repeat(40),
                tree: (await tree).toString('hex'),
                committedAt: '',
                info: { title: '', author: '', login: null },
                gitDir: objects.gitDir,
              }
              const context = await source.context(commit, { dockerfile })
              try {
                await entriesKey(context.entries)
                const times = await FileTimes.of(context, null, 'x')
                await FileTimes.of(context, await times.encode(0), 'x')
                const files = [...context.dockerfileEntries, ...context.entries].filter(
                  ({ kind }) => kind === 'file',
                )
                for (const file of files.slice(0, 5))
                  for await (const piece of context.read(file)) void piece.length
              } finally {
                await context.close()
              }
            }),
        }
      },
      async problem() {
        await objects.clear()
        return null
      },
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  },
}

/** A tree with everything in it. @param shown receives a description of each entry */
export async function drawTree(
  chance: Chance,
  objects: ForgedObjects,
  shown: string[],
  depth = 0,
): Promise<Buffer> {
  const most = chance.percent(0.5) ? 3000 : 8
  const names = chance.times(0, most, (at) => (most > 100 ? `${chance.one(NAMES)}${at}` : chance.one(NAMES)))
  if (depth === 0 && chance.percent(90)) names.push('Dockerfile')
  if (depth === 0 && chance.percent(50))
    names.push('.gitattributes', '.dockerignore', '.lfsconfig', 'big.bin')
  const lines: Line[] = []
  for (const name of chance.percent(85)
    ? new Set(names.filter((one) => !/^\.{0,2}$|\/|^\.git$/i.test(one)))
    : names) {
    lines.push(await drawLine(chance, objects, shown, { name, depth }))
  }
  // In git's order, which sorts a folder as if its name ended in a slash.
  const key = ({ mode, name }: Line) => Buffer.concat([name, Buffer.from(/^0?4/.test(mode) ? '/' : '')])
  if (chance.percent(90)) lines.sort((a, b) => Buffer.compare(key(a), key(b)))
  return objects.tree(lines)
}

async function drawLine(
  chance: Chance,
  objects: ForgedObjects,
  shown: string[],
  { name, depth }: { name: string; depth: number },
): Promise<Line> {
  const own = /dockerfile|^\.(docker|git|lfs)/i.test(name) && chance.percent(85)
  const mode = own ? '100644' : chance.percent(97) ? chance.one(MODES.slice(0, 10)) : chance.one(MODES)
  const isTree = /^0?4/.test(mode) && depth < 3
  const content = drawContent(chance, name, mode)
  const id = chance.percent(1.5)
    ? chance.bytes(20)
    : isTree
      ? await drawTree(chance, objects, shown, depth + 1)
      : await objects.blob(content)
  const raw = chance.percent(2)
    ? mutatedBytes(chance, Buffer.from(name))
    : Buffer.from(chance.percent(1) ? mutated(chance, name, ODD) : name)
  shown.push(
    `${depth} ${mode} ${JSON.stringify(name)} ${JSON.stringify(content.toString('latin1').slice(0, 60))}`,
  )
  return { mode, id, name: raw }
}

function drawContent(chance: Chance, name: string, mode: string): Buffer {
  if (mode === '120000') return Buffer.from(chance.one(LINKS))
  if (name === '.gitattributes' && chance.percent(30)) return Buffer.from('* filter=lfs\n')
  if (name === '.gitattributes')
    return Buffer.from(chance.times(0, 8, () => chance.one(ATTRIBUTES)).join(chance.one(['', ' '])))
  if (name === '.lfsconfig') return Buffer.from(chance.one(LFSCONFIGS))
  if (name.endsWith('ignore') && chance.percent(3)) return Buffer.from(LFS)
  if (name.endsWith('ignore')) return Buffer.from(chance.times(0, 4, () => chance.one(PATTERNS)).join(''))
  if (/^dockerfile$/i.test(name))
    return Buffer.from(
      chance.percent(0.5)
        ? 'x'.repeat((1 << 20) + 1)
        : chance.percent(5)
          ? drawDockerfile(chance)
          : 'FROM scratch\n',
    )
  if (chance.percent(0.3)) return Buffer.alloc(600 * 1024, 'x')
  if (chance.percent(30)) return Buffer.from(LFS)
  return Buffer.from(chance.one(['', 'a', 'a\nb\n', 'a\r\nb', LFS, LFS, BAD_LFS, '$Id$\n', 'é', '\ufeffx']))
}
