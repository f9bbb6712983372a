import type { Draw } from './draw.ts'
import { BASE, type Bytes, directories, RUN, type Tree } from './model.ts'
import { dummiesOfAnotherStage, timedInstructions } from './timed-steps.ts'

/** What a Dockerfile should test. */
export interface Topics {
  /** Steps that depend on which files are newer. */
  times: boolean
  /** The frontend knows COPY --chmod and COPY --link. */
  isNew: boolean
  /** Sources may be missing. */
  failures: boolean
  /** There is a .dockerignore. */
  ignores: boolean
  /** There are submodules. */
  submodules: boolean
  /** There are files in Git LFS. */
  lfs: boolean
}

/** A Dockerfile for these files, with the placeholders for base image and run. */
export function dockerfile(draw: Draw, tree: Tree, topics: Topics): Bytes {
  const lines = draw.chance(30) ? twoStages(draw, tree, topics) : oneStage(draw, tree, topics)
  return `${lines.join('\n')}\n`
}

function oneStage(draw: Draw, tree: Tree, topics: Topics): Bytes[] {
  return [`FROM ${BASE}`, `ENV RUN=${RUN}`, ...body(draw, tree, topics), ...settings(draw)]
}

function twoStages(draw: Draw, tree: Tree, topics: Topics): Bytes[] {
  const start = [`FROM ${BASE} AS first`, `ENV RUN=${RUN}`]
  if (topics.times && draw.chance(30)) {
    const { first, second } = dummiesOfAnotherStage(draw, tree, topics.isNew)
    return [...start, ...first, `FROM ${BASE}`, `ENV RUN=${RUN}`, ...second]
  }
  const second = draw.weighted<Bytes[]>([
    [4, [`FROM ${BASE}`, `ENV RUN=${RUN}`]],
    [1, ['FROM scratch']],
    [1, ['FROM first']],
  ])
  const scratch = second[0] === 'FROM scratch'
  const from = draw.one(['/ctx', '/ctx/', '/ctx/.', '/ctx/*', '/', '/ctx/[a-m]*'])
  return [
    ...start,
    ...body(draw, tree, topics),
    ...(topics.times ? ['RUN mkdir -p /out /o /probe'] : []),
    ...second,
    ...(topics.times ? ['out', 'o', 'probe'].map((name) => `COPY --from=first /${name} /${name}/`) : []),
    ...(!topics.times && draw.chance(70) ? [`COPY --from=first ${from} /from/`] : []),
    ...(scratch ? copies(draw, tree, topics) : body(draw, tree, { ...topics, times: false })),
    ...settings(draw),
  ]
}

function body(draw: Draw, tree: Tree, topics: Topics): Bytes[] {
  return [
    ...(draw.chance(20) ? [draw.one(['WORKDIR /work', 'WORKDIR deep/er', 'WORKDIR /ctx'])] : []),
    ...(topics.times ? timedInstructions(draw, tree, topics.isNew) : []),
    ...(topics.times && draw.chance(60) ? [] : copies(draw, tree, topics)),
    ...(draw.chance(10) ? ['RUN echo made >/made && ls -A / >/list'] : []),
  ]
}

function settings(draw: Draw): Bytes[] {
  const all = [
    ...[
      'CMD ["run"]',
      'CMD run it',
      'ENTRYPOINT ["/bin/sh", "-c"]',
      'WORKDIR /ctx',
      'USER node',
      'USER 1000:1000',
    ],
    ...[
      'EXPOSE 80 443/udp',
      'ENV A=1 B="two words"',
      'LABEL a=b',
      'STOPSIGNAL SIGINT',
      'VOLUME /data',
      'SHELL ["/bin/sh", "-e", "-c"]',
    ],
  ]
  return draw.chance(30) ? draw.times(1, 2, () => draw.one(all)) : []
}

function copies(draw: Draw, tree: Tree, topics: Topics): Bytes[] {
  const count = draw.weighted([
    [6, 1],
    [3, 2],
    [1, 3],
  ])
  return Array.from({ length: count }, (_, index) => copy(draw, tree, topics, index))
}

function copy(draw: Draw, tree: Tree, topics: Topics, index: number): Bytes {
  const several = draw.chance(12)
  const sources = several ? draw.times(2, 3, () => source(draw, tree, topics)) : [source(draw, tree, topics)]
  // Usually a separate place: copying a file over a directory is an error.
  const into = draw.one(
    index === 0 || draw.chance(15) ? ['/ctx/', './', 'rel/', '/', '/ctx/d/'] : [`/ctx${index}/`],
  )
  const target =
    several || draw.chance(75) ? into : draw.one([`/ctx/r${index}`, '/ctx', '.', `/ctx/d${index}/x`])
  const flags = [
    ...(draw.chance(8)
      ? [draw.one(['--chown=1000:1000', '--chown=node', '--chown=node:node', '--chown=5'])]
      : []),
    ...(topics.isNew && draw.chance(8) ? [draw.one(['--chmod=755', '--chmod=0600', '--chmod=644'])] : []),
    ...(topics.isNew && draw.chance(8) ? ['--link'] : []),
  ]
  const instruction = [draw.chance(15) ? 'ADD' : 'COPY', ...flags]
  const [only = ''] = sources
  if (sources.length === 1 && /^[\w./-]+$/.test(only) && draw.chance(8)) {
    return [
      `ARG WHAT=${only}`,
      [...instruction, draw.one(['$WHAT', '\u0024{WHAT}', '"$WHAT"']), target].join(' '),
    ].join('\n')
  }
  return [...instruction, words(draw, [...sources, target])].join(' ')
}

/** The arguments of COPY: as JSON if one contains a space, and sometimes if none does. */
function words(draw: Draw, all: Bytes[]): Bytes {
  const needed = all.some((word) => /[\s"'\\]|^$/.test(word))
  if (!(needed ? draw.chance(95) : draw.chance(15))) return all.join(' ').replaceAll('\n', ' ')
  const json = (word: Bytes) =>
    `"${word.replace(/["\\]/g, '\\$&').replace(/[^ -\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`
  return `[${all.map(json).join(', ')}]`
}

/** One source: a path of the tree in any spelling, or a pattern that may match some. */
function source(draw: Draw, tree: Tree, topics: Topics): Bytes {
  const paths = [...tree.keys()]
  const folders = directories(tree)
  const some = draw.one([...paths, ...folders])
  const slash = some.lastIndexOf('/') + 1
  const [folder, name] = [some.slice(0, slash), some.slice(slash)]
  const safe = draw.chance(90) ? literal : (text: Bytes) => text
  const missing = topics.failures || draw.chance(2)
  const tricky = paths.filter((path) => /\(|, /.test(path))
  return draw.weighted<() => Bytes>([
    // Only an exact reading of a list of patterns finds these.
    [tricky.length > 0 ? 60 : 0, () => exactly(draw, draw.one(tricky))],
    [topics.submodules || topics.lfs ? 60 : topics.ignores ? 40 : 16, () => '.'],
    [18, () => safe(some)],
    [2, () => some],
    [topics.ignores ? 20 : 8, () => '*'],
    [8, () => `${safe(folder)}*`],
    [9, () => safe(folder) + globFor(draw, name, safe)],
    [4, () => (folders.length > 0 ? `${safe(draw.one(folders))}/*` : '*')],
    [
      4,
      () =>
        `${globFor(draw, some.split('/')[0] ?? '', safe)}${folder === '' ? '' : `/${safe(some.split('/').slice(1).join('/'))}`}`,
    ],
    [3, () => `${folders.length > 0 ? safe(draw.one(folders)) : '.'}/`],
    [2, () => `./${safe(some)}`],
    [2, () => `/${safe(some)}`],
    [2, () => `${safe(some)}/../${safe(name)}`],
    [1, () => `../${safe(some)}`],
    [1, () => `${safe(some)}/${draw.one(['*', '.', '..', 'a', '**', '*/**'])}`],
    [
      2,
      () =>
        draw.one([
          '**',
          '**/*',
          '*/*',
          '*.*',
          '?',
          '??',
          '[a-m]*',
          '.*',
          '*.txt',
          '*(1).txt',
          '[^a]*',
          '/',
          './',
          'a*b',
          '{a,b}*',
        ]),
    ],
    [missing ? 4 : 0, () => draw.one(['none-such', 'no*such', 'src/none-such', '[', 'a['])],
  ])()
}

/**
 * A name as a source that means exactly that: wildcards are escaped, and characters that Dockerfiles unquote are
 * quoted.
 */
function literal(text: Bytes): Bytes {
  return text
    .replace(/[*?\\]/g, '\\$&')
    .replaceAll('[', '[[]')
    .replace(/[\\'"$]/g, '\\$&')
}

/** A path, or the same with a wildcard at its start that matches nothing else. */
function exactly(draw: Draw, path: Bytes): Bytes {
  const slash = path.lastIndexOf('/') + 1
  const [folder, name] = [literal(path.slice(0, slash)), path.slice(slash)]
  return folder + draw.one([literal(name), `*${literal(name.slice(1))}`])
}

/** A pattern that matches a name most of the time. */
function globFor(draw: Draw, name: Bytes, safe: (text: Bytes) => Bytes): Bytes {
  const at = draw.whole(0, Math.max(0, name.length - 1))
  const [before, char, after] = [name.slice(0, at), name.slice(at, at + 1), name.slice(at + 1)]
  return draw.one([
    `${safe(before)}*`,
    `*${safe(char + after)}`,
    `${safe(before)}?${safe(after)}`,
    `${safe(before)}*${safe(after)}`,
    `${safe(before)}[${/^[a-z]$/.test(char) ? 'a-z' : `\\${char}`}]${safe(after)}`,
    `${safe(before)}[^${char === 'q' ? 'r' : 'q'}]${safe(after)}`,
    `*${safe(after)}`,
    `\\${safe(name)}`,
  ])
}
