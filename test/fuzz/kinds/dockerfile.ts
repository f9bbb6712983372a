import { copiedBeforeRun } from '../../../src/lib/dockerfile/copied-before-run.ts'
import { declaredArgs } from '../../../src/lib/dockerfile/declared-args.ts'
import { externalImages, readImages } from '../../../src/lib/dockerfile/external-images.ts'
import {
  contextUse,
  instructionsOf,
  lineOf,
  outlineOf,
  placeOf,
  positionOf,
} from '../../../src/lib/dockerfile/outline.ts'
import { dockerfileText } from '../../../src/lib/dockerfile/read.ts'
import { stageNames } from '../../../src/lib/dockerfile/stages.ts'
import { linesFrom, linesOfStep } from '../../../src/lib/dockerfile/step-lines.ts'
import { splitReference } from '../../../src/lib/registry/image-name.ts'
import { inOwnTurn } from '../../../src/lib/util/own-turn.ts'
import { memoryContext } from '../../support/context/memory-context.ts'
import type { Chance } from '../generate/chance.ts'
import { mutated, textOf } from '../generate/mutate.ts'
import { excerpt, type Kind, plain } from '../kind.ts'

const NEVER = new AbortController().signal

/** The Dockerfile of a context is read, unless it is too large to be one. */
async function readFromContext(dockerfile: string): Promise<void> {
  const text = await dockerfileText(memoryContext({ Dockerfile: dockerfile }), NEVER)
  const isLarge = Buffer.byteLength(dockerfile) > LONGEST
  if (text !== (isLarge ? null : dockerfile.toWellFormed())) throw new Error('another text was read')
}

/** Each instruction is found by the name of its step, as BuildKit gives it, or not found. */
async function explainSteps(dockerfile: string | null): Promise<void> {
  const instructions = await inOwnTurn(() => instructionsOf(dockerfile))
  if (dockerfile === null || !instructions) return
  const outline = await inOwnTurn(() => outlineOf(instructions.map(lineOf)))
  for (const stage of outline.stages.slice(0, 3)) {
    for (const [at, line] of stage.lines.slice(0, 5).entries()) {
      const stepName = `[${stage.name ?? `stage-${stage.index}`} ${at + 1}/${stage.lines.length}] ${line}`
      if (at < 2) await linesOfStep(dockerfile, stepName)
      const place = await inOwnTurn(() => placeOf(outline, stepName))
      if (!place) continue
      const instruction = instructions[positionOf(outline, place)]
      if (!instruction) throw new Error('a step has no instruction')
      await inOwnTurn(() => contextUse(instruction, stepName))
    }
  }
  await linesFrom(dockerfile, 2)
  for (const instruction of instructions.slice(0, 20)) contextUse(instruction, lineOf(instruction))
}

/** The maximum size of a Dockerfile: see MAX_DOCKERFILE. */
const LONGEST = 1 << 20

const SUBSTITUTIONS = [
  ...[
    'BASE',
    'BASE:-alpine',
    'TAG#v',
    'TAG%%-*',
    'BASE/a/b',
    'BASE//[a]/b',
    'X:?no',
    'X+y',
    'BASE##*/',
    'BASE%a?',
  ],
  ...['BASE/l*/$X', 'BASE//\\*/b', 'X-a', 'X:+b', 'BASE^^', 'BASE%\\}', 'BASE#\\x', ''],
].map((inner) => `$\{${inner}}`)
const IMAGES = [
  ...[
    'alpine',
    'node:24',
    'ghcr.io/acme/app',
    'registry.lan:5000/a/b:1',
    '[::1]:5000/a',
    'scratch',
    'build',
    'base',
  ],
  ...[
    'index.docker.io/library/alpine',
    `alpine@sha256:${'a'.repeat(64)}`,
    'UPPER',
    'a//b',
    '$BASE',
    '"$BASE"',
  ],
  ...["'$BASE'", 'a\\b', ...SUBSTITUTIONS],
]
const NAMES = ['BASE', 'TAG', 'X', 'TARGETARCH', 'BUILDPLATFORM', 'A', 'B']
const STAGES = ['build', 'base', 'Test', 'a.b-c_d', '0', '1', '9', '-1']
const PATHS = [
  '.',
  '/app',
  'go.mod',
  'src/',
  'https://example.com/x',
  'git@github.com:a/b.git',
  'x.git',
  '"a b"',
  '$X',
  './a',
]
const WORDS = [
  ...[
    'FROM ',
    'from ',
    ' AS ',
    ' as ',
    'ARG ',
    'ENV ',
    'COPY ',
    'ADD ',
    'RUN ',
    'ONBUILD ',
    'WORKDIR ',
    'LABEL ',
  ],
  ...[
    'MAINTAINER ',
    'HEALTHCHECK ',
    'CMD ',
    'SHELL ',
    '--from=',
    '--mount=type=cache,',
    '--mount=',
    'from=',
    'type=cache',
  ],
  ...[
    '--platform=$TARGETPLATFORM ',
    '--link ',
    '-- ',
    '--from ',
    '# escape=`\n',
    '# escape=x\n',
    '# check=skip=all\n',
  ],
  ...[
    '# syntax=docker/dockerfile:1\n',
    '# syntax=evil/one\n',
    '// syntax=evil/one\n',
    '#\u00a0syntax=evil/one\n',
    '{"syntax": "evil/one"}',
    '#!/bin/sh\n',
    '\\\n',
    '`\n',
    '\n',
    '<<EOF\n',
    '<<-EOF\n',
    '<< EOF\n',
  ],
  ...[
    "<<'EOF'\n",
    '<<"E O F"\n',
    'EOF\n',
    '\tEOF\n',
    '["a", "b"]',
    '["a", 1]',
    '["a"',
    '[]',
    '"from=a",b',
    '""',
    '"a""b"',
  ],
  ...[
    '${',
    ':-',
    '##',
    '%%',
    '//',
    '\\*',
    '\\?',
    '\\}',
    '\\/',
    '\\"',
    '=',
    "'",
    '"',
    ...IMAGES,
    ...NAMES,
    ...PATHS,
    ...STAGES,
  ],
]

export const dockerfileKind: Kind = {
  share: 50,
  least: 200,
  parsers: ['dockerfile'],
  open: plain((chance) => {
    const dockerfile = chance.percent(1) ? null : drawDockerfile(chance)
    const settings = {
      buildArgs: pairs(chance, NAMES, IMAGES),
      target: chance.percent(30) ? chance.one(STAGES) : null,
      contexts: pairs(chance, ['alpine', 'build', 'base', 'node', 'alpine::linux/amd64'], CONTEXTS),
    }
    return {
      shown: () => `${excerpt(dockerfile)} with ${JSON.stringify(settings)}`,
      async run() {
        // As a build does.
        if (dockerfile !== null) await readFromContext(dockerfile)
        await inOwnTurn(() => readImages(dockerfile, settings))
        const { images } = await inOwnTurn(() => externalImages(dockerfile, settings))
        for (const name of images) splitReference(name)
        await inOwnTurn(() => copiedBeforeRun(dockerfile))
        await inOwnTurn(() => declaredArgs(dockerfile, ['GIT_SHA', 'VERSION']))
        await inOwnTurn(() => dockerfile !== null && stageNames(dockerfile))
        await explainSteps(dockerfile)
      },
    }
  }),
}

const CONTEXTS = [
  'docker-image://debian',
  'docker-image:scratch',
  'https://example.com/a.git',
  'docker-image://',
]

function pairs(chance: Chance, names: readonly string[], values: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    chance.times(0, 2, () => [chance.one([...names, 'BUILDKIT_SYNTAX', '__proto__']), chance.one(values)]),
  )
}

/** A realistic Dockerfile with changes, words of Dockerfiles in any order, or one with a few very long lines. */
export function drawDockerfile(chance: Chance): string {
  if (chance.percent(0.7)) return long(chance)
  if (chance.percent(15)) return textOf(chance, WORDS, chance.size(2000))
  const text = lines(chance)
  return chance.percent(60) ? mutated(chance, text, WORDS) : text
}

function long(chance: Chance): string {
  const line = chance.one([
    () => mutated(chance, lines(chance), WORDS),
    () => textOf(chance, WORDS, chance.whole(1, 100)),
    () => chance.one(WORDS),
    () => `${instruction(chance)}\n`,
    () => `FROM ${chance.one(IMAGES)} AS a\n${instruction(chance)}\n`,
    () =>
      `${chance.one(WORDS)}${chance.one([' ', '\t', '\\', '"', '$', '${A', '${A:-', '#', '\n', '(', ',', '--x '])}`,
  ])()
  const length = chance.one([1 << 16, (1 << 17) - 100, (1 << 17) + 100, LONGEST])
  const head = chance.one([
    '',
    'FROM a AS a\n',
    'FROM a\nRUN --mount=type=cache,target=/x y\n',
    '# syntax=a\n',
  ])
  return (
    head +
    line.repeat(Math.ceil((length - head.length) / Math.max(1, line.length))).slice(0, length - head.length)
  )
}

function lines(chance: Chance): string {
  const head = chance.one([
    '',
    '',
    '# syntax=docker/dockerfile:1\n',
    '# escape=`\n',
    '#!/x\n# syntax = a:1 b\n# escape=\\\n',
    '\ufeff',
  ])
  const args = chance.times(0, 2, () => `ARG ${assignment(chance)}\n`)
  const stages = chance.times(1, 4, () => stage(chance))
  return [head, ...args, ...stages].join('')
}

function stage(chance: Chance): string {
  const platform = chance.percent(20) ? '--platform=linux/amd64 ' : ''
  const name = chance.percent(70) ? ` AS ${chance.one(STAGES)}` : ''
  const first = `FROM ${platform}${chance.one([...IMAGES, ...STAGES])}${name}\n`
  return [first, ...chance.times(0, 6, () => `${instruction(chance)}\n`)].join('')
}

function assignment(chance: Chance): string {
  const value = chance.one([
    ...IMAGES,
    ...NAMES.map((name) => `$${name}`),
    '"a b"',
    "'c'",
    'd\\ e',
    '$A$A',
    '',
  ])
  return chance.percent(15) ? chance.one(NAMES) : `${chance.one(NAMES)}=${value}`
}

function instruction(chance: Chance): string {
  const from = chance.one([...STAGES, ...IMAGES])
  const path = () => chance.one(PATHS)
  return chance.one([
    () => `ARG ${chance.times(1, 2, () => assignment(chance)).join(' ')}`,
    () => `ENV ${chance.times(1, 3, () => assignment(chance)).join(' ')}`,
    () => `ENV ${chance.one(NAMES)} ${chance.one(IMAGES)}`,
    () => `COPY --from=${from} ${path()} ${path()}`,
    () => `COPY ${path()} ${path()} ${path()}`,
    () => `COPY <<EOF <<-"X" /a\n${path()}\nEOF\n\tX`,
    () => `COPY ["a", "${path().replaceAll('"', '')}"]`,
    () => `ADD ${path()} ${path()}`,
    () => `ADD [ "${path().replaceAll('"', '')}", "b" ] <<EOF`,
    () => `RUN --mount=type=cache,target=/x make`,
    () => `RUN --mount=type=bind,from=${from},target=/y --mount="type=cache" make`,
    () => `RUN --mount='"from=${from}"",type=cache' --mount='type=bind,"from=a"b' --mount='"from=a' x`,
    () => `RUN --mount='type=bind,"from=${from}"' x`,
    () => `RUN <<EOF\n${path()}\nEOF`,
    () => `RUN a \\\n  # comment\n\n  && b`,
    () => `ONBUILD ${instruction(chance)}`,
    () => `WORKDIR ${path()}`,
  ])()
}
