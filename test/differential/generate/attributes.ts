import { isUtf8 } from 'node:buffer'
import type { Draw } from './draw.ts'
import { type Bytes, directories, type Entry, type Tree } from './model.ts'

const ATTRIBUTES = [
  ...[
    'text',
    'text=auto',
    'text eol=crlf',
    'eol=crlf',
    'text=auto eol=crlf',
    'text=auto eol=lf',
    'text eol=lf',
    '-text',
  ],
  ...[
    'ident',
    '-ident',
    'text eol=crlf ident',
    'binary',
    '!eol',
    'crlf',
    '-crlf',
    'crlf=input',
    'dos',
    'filter=none-such',
  ],
  ...[
    'working-tree-encoding=UTF-16',
    'text working-tree-encoding=UTF-16LE-BOM',
    'working-tree-encoding=ISO-8859-1',
  ],
  ...[
    'text working-tree-encoding=UTF-16LE eol=crlf',
    'working-tree-encoding=none-such',
    'export-ignore',
    'export-subst',
    '-diff',
  ],
]

/** A .gitattributes that changes, or tries to change, what a checkout writes. */
export function attributes(draw: Draw, tree: Tree): Entry {
  const lines = draw.times(1, 3, () => {
    const attribute = draw.one(ATTRIBUTES)
    // Usually not for the Dockerfile, which must be UTF-8.
    const one =
      /UTF-16/.test(attribute) && draw.chance(90)
        ? draw.one(['*.txt', 'src/*', 'lib/*', 'a*'])
        : pattern(draw, tree)
    return `${one} ${attribute}`
  })
  const macro = lines.some((line) => / dos$/.test(line)) ? ['[attr]dos text eol=crlf'] : []
  return { kind: 'file', content: [...macro, ...lines, ''].join('\n'), executable: false }
}

function pattern(draw: Draw, tree: Tree): Bytes {
  const some = draw.one([...tree.keys(), 'a'])
  const name = some.split('/').at(-1) ?? some
  return draw.weighted<() => Bytes>([
    [8, () => '*'],
    [
      6,
      () =>
        draw.one([
          '*.txt',
          '*.bat',
          '*.sh',
          '**/*.txt',
          'src/**',
          'src/*',
          'lib/*',
          '/*',
          '*/*',
          '[a-m]*',
          '.*',
        ]),
    ],
    [6, () => quoted(name)],
    [3, () => quoted(`/${some}`)],
    [2, () => quoted(some)],
  ])()
}

/** As in gitattributes(5): quoted in C style if it contains blanks or special characters. */
export function quoted(name: Bytes): Bytes {
  if (/^[\w./-]+$/.test(name)) return name
  return `"${name.replace(/[\\"]/g, '\\$&').replace(/[^\x20-\x7e]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`)}"`
}

const IGNORES = [
  ...[
    '*',
    '**',
    '*.txt',
    '**/*.txt',
    '*/*',
    '?',
    '[ab]',
    '[a-m]*',
    '.*',
    '**/.*',
    'src',
    'src/*',
    'src/**',
    '**/src',
    '!src',
    '!src/**',
  ],
  ...[
    '#comment',
    '',
    '  a  ',
    './a',
    '/a',
    'a/',
    'a/../b',
    '..',
    '/',
    '.',
    '!',
    '!*',
    '!**/b',
    '!*.txt',
    'Dockerfile',
    '.dockerignore',
  ],
  ...[
    '!Dockerfile',
    '**/a',
    'a/**/b',
    '**a',
    'a**',
    '*/a',
    '\\*',
    '\\!bang',
    '!.env',
    '**/*',
    '!**/*.txt',
    'lib/**/*.txt',
    '*.*',
  ],
]
/** Invalid patterns. */
const BROKEN = ['[', 'a[', '[]', '[a-', '\\', 'a\\', '[z-a]']

/**
 * A .dockerignore. No pattern is repeated: docker sends an empty file for `a/y` after `a`, `!a/y`, `a`.
 */
export function ignores(draw: Draw, tree: Tree): Entry {
  const all = draw.times(1, 5, () =>
    draw.weighted<() => Bytes[]>([
      [25, () => [draw.one(IGNORES)]],
      [20, () => [`${draw.chance(35) ? '!' : ''}${literal(draw, tree)}`]],
      [3, () => partlyBack(draw, tree)],
      [1, () => [draw.one(BROKEN)]],
    ])(),
  )
  const lines = [...new Set(all.flat())]
  const end = draw.one(['\n', '\r\n', '\n', '\n'])
  return {
    kind: 'file',
    content: (draw.chance(4) ? '\xef\xbb\xbf' : '') + lines.join(end) + (draw.chance(80) ? end : ''),
    executable: false,
  }
}

/** What is in a folder, and an exception for some of it: how far docker walks depends on its wildcards. */
function partlyBack(draw: Draw, tree: Tree): Bytes[] {
  const folder = draw.one(['docs', ...directories(tree).filter((path) => /^[\w./-]+$/.test(path))])
  return [`${folder}/*`, `!${folder}/${draw.one(['*/**', '**', '*', '**/*', '*/*'])}`]
}

/** Uses UTF-8 names only: others are compared by their displayed form, which may not be unique. */
function literal(draw: Draw, tree: Tree): Bytes {
  const named = draw.one(
    [...tree.keys(), ...directories(tree), 'a'].filter((name) => isUtf8(Buffer.from(name, 'latin1'))),
  )
  const some = draw.chance(85) ? named.replace(/[*?[\\]/g, '\\$&') : named
  return draw.chance(70) ? some : `${some}/${draw.one(['*', '**', '*/**', '..', '.', 'a'])}`
}
