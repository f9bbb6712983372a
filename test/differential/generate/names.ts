import type { Draw } from './draw.ts'
import { type Bytes, utf8 } from './model.ts'

const PLAIN = [
  'a',
  'b',
  'c',
  'src',
  'lib',
  'conf',
  'app.js',
  'x.txt',
  'y.txt',
  'run.sh',
  'README.md',
  'x.bat',
]
/** Names that globs, ignore files, Dockerfiles and the order of a walk may trip over. */
const ODD = [
  ...['a.b', 'a-b', 'a b', 'ab', 'A', 'Src', 'X.TXT', 'a.', 'a..', '..a', '...', 'a+b', 'a=b', 'a:b', 'a~1'],
  ...[
    '.env',
    '.htaccess',
    '.hidden',
    '.txt',
    '.github',
    '.gitkeep',
    '.dockerignore.bak',
    '-dash',
    '--flag',
    '-',
  ],
  ...['x(1).txt', 'b(2).txt', '@(x)', '+(a)', '!(b)', '!bang', '#hash', '{a,b}', '{x}', 'a|b', 'a&b', 'a;b'],
  ...[
    'a,b',
    'a, b',
    ', ',
    'a,',
    ',',
    ', b',
    '[x]',
    'a[b]',
    '[',
    ']',
    '[^a]',
    '[a-z]',
    '*',
    '?',
    'a*b',
    '**',
    '^',
    '^a',
  ],
  ...[
    'back\\slash',
    '\\',
    'a\\',
    '\\*',
    'q"uote',
    "it's",
    '"',
    '$HOME',
    '\u0024{x}',
    '%41',
    '%',
    '~',
    '`',
    '<a>',
  ],
  ...[' lead', 'end ', ' ', 'a\tb', 'new\nline', 'cr\r', '\u007f', '\u0001'],
]
const FOREIGN = [
  ...[
    'test-äöü.txt',
    'a\u0308.txt',
    'ä.txt',
    'é',
    'e\u0301',
    '日本',
    '😀.txt',
    'ß',
    'İ',
    '\u2028',
    '\ufeffa',
    'ﬁ',
    '\u00a0',
  ].map(utf8),
  // Invalid UTF-8: latin1, a truncated sequence, an overlong one, a surrogate.
  ...['caf\xe9', '\xff\xfe', '\xc3', '\xc0\xaf', '\xed\xa0\x80', 'a\x80b'],
]
const LONG = ['n'.repeat(200), 'l'.repeat(255)]
/** For random names. */
const LETTERS = [
  'a',
  'b',
  '.',
  '-',
  '(',
  ')',
  ' ',
  ',',
  '*',
  '[',
  ']',
  '\\',
  '?',
  '^',
  '!',
  '{',
  '}',
  utf8('ä'),
  '_',
  '1',
]
/** Names that are impossible in git or on Linux. */
const IMPOSSIBLE = /^(\.{0,2}|\.git|git~1)$/i

/** How odd the names of a repository are. */
export type Taste = 'plain' | 'odd' | 'foreign'

/** A few names that make up a repository's paths: few, so that some are prefixes or variants of each other. */
export function namePool(draw: Draw, taste: Taste): Bytes[] {
  const pool = draw.times(3, 7, () => name(draw, taste))
  if (taste !== 'plain' && draw.chance(15)) pool.push(draw.one(['x(1).txt', 'b(2).txt', 'a, b']))
  return [...new Set(pool)]
}

function name(draw: Draw, taste: Taste): Bytes {
  if (taste === 'plain') return draw.one(PLAIN)
  const made = draw.weighted<() => Bytes>([
    [30, () => draw.one(PLAIN)],
    [40, () => draw.one(ODD)],
    [taste === 'foreign' ? 40 : 0, () => draw.one(FOREIGN)],
    [20, () => draw.times(1, 4, () => draw.one(LETTERS)).join('')],
    [1, () => draw.one(LONG)],
  ])()
  return IMPOSSIBLE.test(made) ? 'a' : made
}

/** A path of one to four of the names. */
export function path(draw: Draw, pool: readonly Bytes[]): Bytes {
  const depth = draw.weighted([
    [5, 1],
    [4, 2],
    [2, 3],
    [1, 4],
  ])
  return Array.from({ length: depth }, () => draw.one(pool)).join('/')
}
