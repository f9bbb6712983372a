import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Builder, BuildInput } from '../../src/lib/builder/builder.ts'
import { buildkitBuilder } from '../../src/lib/builder/buildkit/builder.ts'
import { buildOverHttp } from '../../src/lib/builder/engine/build-transport.ts'
import { engineBuilder } from '../../src/lib/builder/engine/builder.ts'
import { buildOverGrpc } from '../../src/lib/builder/engine/grpc-transport.ts'
import { parseBuildkitAddress } from '../../src/lib/buildkit/address.ts'
import { buildkitdEndpoint } from '../../src/lib/buildkit/buildkitd-endpoint.ts'
import type { SourceExcerpt } from '../../src/lib/core/timeline.ts'
import { openDoor } from '../differential/reference.ts'
import { startBuildkitd } from '../support/engines/buildkitd.ts'
import { docker, startPrivateEngine } from '../support/engines/engine.ts'
import { ensureBusybox } from '../support/images/base-images.ts'
import { projectRoot } from '../support/processes.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { startTrixieEngine } from '../support/trixie.ts'
import { buildOf, failure, fresh, io, NOBODY, pushBase } from './builder.contract.ts'

/**
 * The lines of a Dockerfile that failed, as `buildctl build` prints them for the same build, with the code that it shares
 * with `docker build`: on the same BuildKit, except for the engine 20.10, which tells no client about lines.
 */

const BUILDCTL = join(projectRoot, '.conveyor/buildkitd/buildctl')
const run = promisify(execFile)

interface Place {
  builder: Builder
  /** For buildctl. */
  address: string
  base: string
  network: string | null
}

const resources = new AsyncDisposableStack()
let registry: TestRegistry
let dir: TempDir
const places: Record<string, Place> = {}

beforeAll(async () => {
  dir = resources.use(await tempDir())
  registry = resources.use(await startRegistry())
  const [old, engine, buildkitd] = await Promise.all([
    startPrivateEngine(join(dir.path, 'engine'), { removeData: true }),
    startTrixieEngine({ store: 'classic' }),
    startBuildkitd(),
  ])
  for (const one of [old, engine, buildkitd]) resources.use(one)
  await Promise.all([ensureBusybox(docker(old)), ensureBusybox(docker(engine))])
  const door = resources.use(await openDoor(engine))
  for (const [name, of, transport] of [
    ['the engine 20.10 and /build', old, buildOverHttp],
    ['the engine 26 and /build', engine, buildOverHttp],
    ['the engine 26 and /grpc', engine, buildOverGrpc],
  ] as const) {
    const builder = engineBuilder({ docker: docker(of), credentials: NOBODY, transport: () => transport })
    places[name] = { builder, address: door.address, base: 'conveyor-test/busybox:1', network: of.network }
  }
  const address = parseBuildkitAddress(buildkitd.socket)
  if (!address) throw new Error(buildkitd.socket)
  places.buildkitd = {
    builder: buildkitBuilder({
      endpoint: buildkitdEndpoint(buildkitd.socket, address),
      credentials: NOBODY,
      insecureHosts: [registry.host],
    }),
    ...{ address: buildkitd.socket, base: await pushBase(registry.host, docker(old)), network: 'host' },
  }
})
afterAll(() => resources.disposeAsync())

const many = (count: number) => Array.from({ length: count }, (_, at) => `ENV LINE_${at}=${at}`)

/** Failing Dockerfiles, by what is special about them. */
const DOCKERFILES: Record<string, (base: string) => string[]> = {
  'a command in the middle': (base) => [`FROM ${base}`, ...many(4), 'RUN exit 3', ...many(4), ''],
  'a command at the end, without a line feed': (base) => [`FROM ${base}`, '', '# why', 'RUN exit 3'],
  'a command over several lines, with comments': (base) => [
    ...['# syntax is the built-in one', `FROM ${base}`, ...many(3)],
    ...['RUN echo a && \\', '  # a comment', '', '  echo b && \\', '  exit 4', ...many(3)],
  ],
  'more lines than are kept': (base) => [
    ...[`FROM ${base}`, 'RUN true && \\', ...Array<string>(20).fill('  true && \\'), '  false', 'USER 1'],
  ],
  'a missing file': (base) => [`FROM ${base}`, 'WORKDIR /w', 'COPY missing.txt /w/', 'RUN true', ''],
  'an earlier stage': (base) => [
    ...[`FROM ${base} AS first`, 'RUN true', 'RUN false', `FROM ${base}`, 'COPY --from=first /x /x'],
  ],
  'the same command in two stages': (base) => [
    ...[
      `FROM ${base} AS a`,
      `RUN echo ${fresh()}`,
      `FROM ${base}`,
      'RUN exit 5',
      'COPY --from=a /etc /e',
      '',
    ],
  ],
  'line ends of Windows': (base) => [`FROM ${base}\r`, 'RUN true\r', 'RUN exit 2\r', 'USER 1\r', ''],
  'an unknown instruction': (base) => [`FROM ${base}`, '', 'RUNN true', 'RUN true', ''],
  'an unknown instruction over several lines': (base) => [
    ...[`FROM ${base}`, ...many(2), 'RUNN true \\', '  && false', ...many(2)],
  ],
  'a heredoc, which old frontends do not know': (base) => [
    ...[`FROM ${base}`, 'RUN <<EOF', 'exit 9', 'EOF', 'USER 1', ''],
  ],
  'an escape character of its own': (base) => [
    ...['# escape=`', `FROM ${base}`, 'RUN true && `', '  exit 6', ...many(2)],
  ],
  'a variable': (base) => [
    ...[`FROM ${base}`, 'ARG WHAT=missing', 'RUN true', 'COPY $WHAT /x', 'RUN true', ''],
  ],
  'one line': (base) => [`FROM ${base} AS x AS y`],
}

const NAMES = [
  'the engine 20.10 and /build',
  'the engine 26 and /build',
  'the engine 26 and /grpc',
  'buildkitd',
]

describe.each(NAMES)('the lines that a build failed at, through %s', (name) => {
  test.each(Object.keys(DOCKERFILES))('%s', async (what) => {
    const { builder, address, base, network } = places[name] as Place
    const lines = (DOCKERFILES[what] as (base: string) => string[])(base)
    const files = { Dockerfile: lines.join('\n') }
    const input: BuildInput = buildOf(files, registry.host, { network, push: name === 'buildkitd' })
    const { excerpt } = await failure(builder.build(input, io()))
    if (what.startsWith('a heredoc') && name.includes('20.10')) {
      // Its frontend reads the text as instructions.
      expect(excerpt?.lines.flatMap(({ failed, text }) => (failed ? text : []))).toEqual(['exit 9'])
      return
    }
    const expected = await printed(address, files.Dockerfile)
    expect(expected).not.toBe('')
    expect(excerpt && asPrinted(excerpt)).toBe(firstLines(expected))
  })
})

test('an image that does not exist has the line of its FROM only where BuildKit reports it', async () => {
  const Dockerfile = `FROM ${registry.host}/nothing:1\nRUN true\n`
  for (const name of NAMES) {
    const { builder, network } = places[name] as Place
    const input = buildOf({ Dockerfile }, registry.host, { network, push: name === 'buildkitd' })
    const { excerpt } = await failure(builder.build(input, io()))
    if (name.includes('20.10') || name.includes('/build')) expect(excerpt).toBeUndefined()
    else expect(excerpt?.lines.filter(({ failed }) => failed).map(({ number }) => number)).toEqual([1])
  }
})

/** At most 15 lines are kept. */
function firstLines(text: string): string {
  const lines = text.split('\n')
  return lines.length <= 16 ? text : [...lines.slice(0, 16), `and ${lines.length - 16} more`].join('\n')
}

/** As BuildKit's clients print them. */
function asPrinted({ file, lines, more }: SourceExcerpt): string {
  const first = lines.find(({ failed }) => failed)?.number
  const rows = lines.map(
    ({ number, text, failed }) => ` ${`${number}`.padStart(3)} | ${failed ? '>>>' : '   '} ${text}`,
  )
  return [`${file}:${first}`, ...rows, more > 0 ? `and ${more} more` : ''].join('\n').trimEnd()
}

let contexts = 0
/** What buildctl prints between its two rules. */
async function printed(address: string, dockerfile: string): Promise<string> {
  const folder = join(dir.path, `context-${contexts++}`)
  await mkdir(folder)
  await writeFile(join(folder, 'Dockerfile'), dockerfile)
  const args = [
    ...['--addr', address, 'build', '--progress', 'plain', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${folder}`, '--local', `dockerfile=${folder}`],
    ...['--opt', 'force-network-mode=host', '--allow', 'network.host'],
  ]
  const { stderr } = await run(BUILDCTL, args, { env: { PATH: process.env.PATH, HOME: dir.path } }).catch(
    (error: { stderr: string }) => error,
  )
  const [, place = '', rows = ''] = /^(\S+:\d+)\n-{20}\n([\s\S]*?)\n-{20}$/m.exec(stderr) ?? []
  return `${place}\n${rows.replaceAll('\r', '')}`.trim()
}
