import {
  BASE,
  type BaseVersion,
  type Bytes,
  type Commit,
  type Entry,
  type History,
  RUN,
  utf8,
} from './model.ts'

const START = `FROM ${BASE}\nENV RUN=${RUN}\n`

/** A commit of text files. The names are ordinary strings. */
function commit(files: Record<string, string | Entry>, base: BaseVersion = 1): Commit {
  const entry = (one: string | Entry): Entry =>
    typeof one === 'string' ? { kind: 'file', content: utf8(one), executable: false } : one
  const tree = new Map(Object.entries(files).map(([path, one]): [Bytes, Entry] => [utf8(path), entry(one)]))
  return { tree, base }
}

const link = (target: string): Entry => ({ kind: 'link', target: utf8(target) })

/** Outputs outside the image that are rebuilt if their source is newer, like make does. */
const MAKE = `${START}COPY src /src
RUN --mount=type=cache,id=${RUN},target=/cache cd /src && for f in *; do \
if [ ! -e "/cache/$f" ] || [ "$f" -nt "/cache/$f" ]; then { cat "$f" /etc/base; echo "$N"; } >"/cache/$f"; fi; done && cp -r /cache /out
`
/** Outputs that are built from placeholders first, and from the sources once these are newer. */
const DUMMIES = `${START}RUN mkdir -p /src /o && for f in a b; do echo dummy >/src/$f && cp /src/$f /o/$f; done
COPY src /src
RUN for f in a b; do if [ /src/$f -nt /o/$f ]; then cp /src/$f /o/$f; fi; done
`
const copy = (instruction: string, files: Record<string, string | Entry>): History => ({
  commits: [commit({ Dockerfile: `${START}${instruction}\n`, ...files })],
})

/** Earlier failures, each in the form in which it was found. */
export const EXAMPLES: Record<string, History> = {
  'a program that is rebuilt only if its source is newer': {
    commits: ['1', '2', '3', '1', '4'].map((version) =>
      commit({ Dockerfile: MAKE, 'src/a': version, 'src/b': 'b' }),
    ),
  },
  'a source that is reverted while another one changes': {
    commits: [
      ['1', '1'],
      ['2', '1'],
      ['1', '2'],
    ].map(([a = '', b = '']) => commit({ Dockerfile: MAKE, 'src/a': a, 'src/b': b })),
  },
  'placeholders for sources': {
    commits: ['1', '2', '3'].map((version) =>
      commit({ Dockerfile: DUMMIES, 'src/a': version, 'src/b': 'b' }),
    ),
  },
  'a Dockerfile that changes, and the outputs from the same files with it': {
    commits: ['', 'ENV N=1\n', '# more\n'].map((more) =>
      commit({ Dockerfile: MAKE.replace('COPY', `${more}COPY`), 'src/a': '1', 'src/b': 'b' }),
    ),
  },
  'a base image that moves, and the outputs from the same files with it': {
    commits: ([1, 2, 1] as const).map((base) =>
      commit({ Dockerfile: MAKE, 'src/a': '1', 'src/b': 'b' }, base),
    ),
  },
  'wildcards and names with a dot at the beginning': copy('COPY * /ctx/\nCOPY conf/* /conf/', {
    '.env': 'a',
    'conf/.htaccess': 'b',
    'conf/c': 'c',
  }),
  'wildcards and parentheses': copy('COPY *(1).txt /ctx/', { 'x(1).txt': 'x', 'y.txt': 'y' }),
  'names outside ASCII': copy('COPY test-äöü.txt /ctx/\nCOPY 日* /ctx/', {
    'test-äöü.txt': 'a',
    日本: 'b',
    b: 'b',
  }),
  'a comma in a name': copy('COPY ["a, b", "/ctx/"]\nCOPY a b /other/', { 'a, b': '1', a: '2', b: '3' }),
  'names that are not UTF-8': {
    commits: [
      {
        tree: new Map<Bytes, Entry>([
          ...commit({ Dockerfile: `${START}COPY . /ctx/\n` }).tree,
          ['caf\xe9', { kind: 'file', content: 'x', executable: true }],
        ]),
        base: 1,
      },
    ],
  },
  'line endings that a checkout changes': {
    commits: ['*.bat text eol=crlf', '* text=auto eol=crlf'].map((line) =>
      commit({
        Dockerfile: `${START}COPY . /ctx/\n`,
        '.gitattributes': `${line}\n`,
        'x.bat': 'one\ntwo\n',
        'y.txt': 'y\n',
      }),
    ),
  },
  'encodings and idents': copy('COPY . /ctx/', {
    '.gitattributes': '*.txt working-tree-encoding=UTF-16\n*.c ident\n',
    'x.txt': 'größe\n',
    'v.c': '$Id$\n',
  }),
  'symlinks in the path of a source': copy('COPY current/app /app\nCOPY lib* /lib/', {
    current: link('releases/2'),
    'releases/2/app': 'two',
    'lib.so': link('/releases/2/app'),
    loop: link('loop'),
  }),
  'exceptions in an ignore file': copy('COPY . /ctx/', {
    '.dockerignore': '# all but\n*\n!keep\n!gone/*.md\nkeep/not\n',
    'keep/a': 'a',
    'keep/not': 'b',
    'gone/c': 'c',
    'gone/d.md': 'd',
  }),
  'an ignore file that is a symlink, and changes': {
    commits: ['', 'a\n', 'b\n'].map((ignored) =>
      commit({
        Dockerfile: `${START}COPY . /ctx/\n`,
        '.dockerignore': link('.gitignore'),
        '.gitignore': `${ignored}c\n`,
        a: 'a',
        b: 'b',
        c: 'c',
      }),
    ),
  },
  'a Dockerfile that is a symlink to what looks like an ignore file': {
    commits: ['a', 'b'].map((name) =>
      commit({
        Dockerfile: link('x.dockerignore'),
        'x.dockerignore': `${START}COPY ${name} /ctx/\n`,
        a: 'a',
        b: 'b',
      }),
    ),
  },
  'a Dockerfile in lower case, next to one that cannot be read': {
    commits: [link('nowhere'), link('docs')].map((there) =>
      commit({
        Dockerfile: there,
        dockerfile: `${START}COPY . /ctx/\n`,
        'Dockerfile.dockerignore': 'docs\n',
        'dockerfile.dockerignore': 'src\n',
        'docs/a': 'a',
        'src/a': 'a',
      }),
    ),
  },
  'a missing source': copy('COPY none-such /ctx/', { a: 'a' }),
}
