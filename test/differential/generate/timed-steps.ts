import { PROBES } from '../image/compare.ts'
import type { Draw } from './draw.ts'
import { type Bytes, RUN, type Tree } from './model.ts'

/** The folder of sources for incremental steps. It is flat, and its names are plain. */
export const SOURCES = 'src'

/** Rebuilds outputs that are missing or older than their source, like make: from the source, the base image and the environment. */
const update = (from: string, to: string) =>
  `cd ${from} && for f in $(find . -type f); do mkdir -p "${to}/$(dirname "$f")"; ` +
  `if [ ! -e "${to}/$f" ] || [ "$f" -nt "${to}/$f" ]; then { cat "$f" /etc/base; echo "$N"; } >"${to}/$f"; fi; done`

/** Steps whose results depend on the times of files. Their outputs are in /out, /o and /probe. */
export function timedInstructions(draw: Draw, tree: Tree, isNew: boolean): Bytes[] {
  const sources = sourcesOf(tree)
  const names = namesOf(tree)
  return draw.weighted<() => Bytes[]>([
    [4, () => dummies(draw, names, isNew)],
    [4, () => cacheMount(draw)],
    [2, () => boundCacheMount(draw)],
    [4, () => probes(draw, sources)],
    [2, () => [...dummies(draw, names, isNew), ...cacheMount(draw)]],
  ])()
}

/** Dependencies first, built with placeholder sources, as with cargo. */
function dummies(draw: Draw, names: readonly Bytes[], isNew: boolean): Bytes[] {
  return [...makeDummies(draw, names), ...replaceDummies(draw, isNew)]
}

function makeDummies(draw: Draw, names: readonly Bytes[]): Bytes[] {
  const some = names.length > 0 ? names : ['a']
  const make = draw.one([
    'echo dummy >$f && cp $f /o/$f',
    'touch $f && cat $f >/o/$f',
    'echo dummy | tee $f >/o/$f',
  ])
  return [
    ...lockFile(draw),
    `RUN mkdir -p /${SOURCES} /o && cd /${SOURCES} && for f in ${some.join(' ')}; do ${make}; done`,
  ]
}

function replaceDummies(draw: Draw, isNew: boolean): Bytes[] {
  const copy = draw.one([
    `${SOURCES} /${SOURCES}`,
    `${SOURCES}/ /${SOURCES}/`,
    `${SOURCES}/* /${SOURCES}/`,
    '. /',
  ])
  const link = isNew && draw.chance(30) ? '--link ' : ''
  return [`COPY ${link}${copy}`, `RUN ${update(`/${SOURCES}`, '/o')}`]
}

/** Placeholder sources and their outputs in a separate stage: the steps of that stage, and those after it. */
export function dummiesOfAnotherStage(
  draw: Draw,
  tree: Tree,
  isNew: boolean,
): { first: Bytes[]; second: Bytes[] } {
  const copied = draw.one(['COPY --from=first /o /o', `COPY --from=first /o /o/`, 'COPY --from=0 /o/ /o/'])
  return {
    first: makeDummies(draw, namesOf(tree)),
    second: draw.chance(70)
      ? [copied, ...replaceDummies(draw, isNew)]
      : replaceDummies(draw, isNew).toSpliced(1, 0, copied),
  }
}

function sourcesOf(tree: Tree): Bytes[] {
  return [...tree.keys()].filter((path) => path.startsWith(`${SOURCES}/`))
}

function namesOf(tree: Tree): Bytes[] {
  return sourcesOf(tree).map((path) => path.slice(SOURCES.length + 1))
}

/** Files that are copied before a step, which must run again if they change. */
function lockFile(draw: Draw): Bytes[] {
  return draw.chance(50)
    ? [draw.one(['COPY lock /lock', 'COPY loc[k] /lock', `COPY lock ${SOURCES}/a* /first/`])]
    : []
}

/** Outputs that persist between builds outside the image. */
function cacheMount(draw: Draw): Bytes[] {
  const id = `${draw.one(['one', 'two'])}-${RUN}`
  const mount = `--mount=type=cache,id=${id},target=/cache`
  return [
    draw.one([`COPY ${SOURCES} /in`, 'COPY . /in', `COPY ${SOURCES}/* /in/`]),
    `RUN ${mount} ${update('/in', '/cache')} && for f in $(find . -type f); do mkdir -p "/out/$(dirname "$f")" && cp "/cache/$f" "/out/$f"; done`,
  ]
}

/** The same with files that are only mounted. */
function boundCacheMount(draw: Draw): Bytes[] {
  const source = draw.one([SOURCES, SOURCES, '.'])
  return [
    `RUN --mount=type=bind${source === '.' ? '' : `,source=${source}`},target=/bound --mount=type=cache,id=bound-${RUN},target=/cache ` +
      `${update('/bound', '/cache')} && for f in $(find . -type f); do mkdir -p "/out/$(dirname "$f")" && cp "/cache/$f" "/out/$f"; done`,
  ]
}

/** Records for each file whether it is newer than a file that an earlier step created. */
function probes(draw: Draw, sources: readonly Bytes[]): Bytes[] {
  const probe = (path: Bytes) => {
    const name = Buffer.from(path, 'latin1').toString('hex')
    return `{ if [ /in/${path} -nt /older ]; then echo newer; else echo older; fi; } >/${PROBES}${name}`
  }
  return [
    ...lockFile(draw),
    `RUN mkdir -p /${PROBES} && echo older >/older`,
    draw.one(['COPY . /in', `COPY ${SOURCES} /in/${SOURCES}`]),
    ...(sources.length > 0 ? [`RUN ${sources.map(probe).join('; ')}`] : []),
  ]
}
