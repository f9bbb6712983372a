import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Builder } from '../../src/lib/builder/builder.ts'
import { buildkitBuilder } from '../../src/lib/builder/buildkit/builder.ts'
import { dockerBuilder } from '../../src/lib/builder/engine/docker-builder.ts'
import { parseBuildkitAddress } from '../../src/lib/buildkit/address.ts'
import { buildkitdEndpoint } from '../../src/lib/buildkit/buildkitd-endpoint.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { type Reading, readImages } from '../../src/lib/dockerfile/external-images.ts'
import { splitReference } from '../../src/lib/registry/image-name.ts'
import { buildOf, io, NOBODY, pushBase } from '../builder/builder.contract.ts'
import { startBuildkitd } from '../support/engines/buildkitd.ts'
import { engine } from '../support/global-setup.ts'
import { MANIFEST_TYPES } from '../support/images/pushed-image.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'

type Subject = { builder: Builder; network: string | null } & AsyncDisposable

const oldEngine = async (): Promise<Subject> => {
  const { docker, network } = engine()
  const builder = await dockerBuilder({ docker, credentials: NOBODY })
  return { builder, network, [Symbol.asyncDispose]: () => builder.close() }
}

const buildkitd = async (): Promise<Subject> => {
  const node = await startBuildkitd()
  const address = parseBuildkitAddress(node.socket)
  if (!address) throw new Error(node.socket)
  const builder = buildkitBuilder({ endpoint: buildkitdEndpoint(node.socket, address), credentials: NOBODY })
  return {
    builder,
    network: 'host',
    async [Symbol.asyncDispose]() {
      await builder.close()
      await node[Symbol.asyncDispose]()
    },
  }
}

let registry: TestRegistry
let manifest: { bytes: ArrayBuffer; type: string; digest: string }
const resources = new AsyncDisposableStack()
beforeAll(async () => {
  registry = resources.use(await startRegistry())
  await pushBase(registry.host)
  const answer = await fetch(`${registry.url}/v2/base/busybox/manifests/1`, {
    headers: { accept: MANIFEST_TYPES },
  })
  const digest = answer.headers.get('docker-content-digest') ?? ''
  manifest = { bytes: await answer.arrayBuffer(), type: answer.headers.get('content-type') ?? '', digest }
  for (const tag of TAGS) {
    const put = await fetch(`${registry.url}/v2/base/busybox/manifests/${tag}`, {
      method: 'PUT',
      headers: { 'content-type': manifest.type },
      body: manifest.bytes,
    })
    expect(put.status).toBe(201)
  }
})
afterAll(() => resources.disposeAsync())

/**
 * Tags of one image. In the Dockerfiles here, `$(X)` stands for `${X}`, and `IMG:a` for
 * `127.0.0.1:PORT/base/busybox:a`.
 */
const TAGS = ['a', 'b', 'c', 'd']
const real = (text: string) =>
  text
    .replace(/\$\(([^)]*)\)/g, '$${$1}')
    .replaceAll('IMG', `${registry.host}/base/busybox`)
    .replaceAll('DIGEST', manifest.digest)

interface Case {
  dockerfile: string
  buildArgs?: Record<string, string>
  target?: string
}

/** The tags that BuildKit used, or null if it built nothing; and those that we read. */
async function both(subject: Subject, { dockerfile, buildArgs = {}, target }: Case) {
  const settings = { buildArgs, target: target ?? null, contexts: {} }
  const text = real(dockerfile)
  const reading = readImages(text, settings)
  const input = buildOf({ Dockerfile: text, f: 'f', 'd/f': 'f' }, registry.host, {
    ...settings,
    push: false,
    network: subject.network,
  })
  try {
    const { from } = await subject.builder.build(input, io())
    return {
      told: new Set(from.images.map(({ name }) => short(name))),
      remoteFiles: from.remoteFiles,
      reading,
    }
  } catch (error) {
    // BuildKit refused the file or tried Docker Hub for an image; anything else is a broken test.
    if (!(error instanceof ConveyorError)) throw error
    if (error.kind !== 'build_failed' && !error.message.includes('registry-1.docker.io')) throw error
    return { told: null, remoteFiles: false, reading }
  }
}

const short = (name: string) =>
  splitReference(name).withoutDigest().canonical.replace(`${registry.host}/base/busybox:`, '')
const namesOf = ({ uses }: Reading, all: boolean) =>
  uses.flatMap(({ name, certain, kind }) =>
    name !== null && (all || certain) && kind !== 'syntax' ? [short(name)] : [],
  )

/** We must read what BuildKit used, as far as we claim to know it. */
function expectAgreement(
  { told, reading, remoteFiles }: Awaited<ReturnType<typeof both>>,
  dockerfile: string,
) {
  if (!told || reading.unreadable) return
  const isOpen = reading.uses.some(({ name }) => name === null)
  expect(isOpen ? [...told] : namesOf(reading, true), dockerfile).toEqual(expect.arrayContaining([...told]))
  expect([...told], dockerfile).toEqual(expect.arrayContaining(namesOf(reading, false)))
  expect(reading.remoteFiles || !remoteFiles, dockerfile).toBe(true)
}

/** The tags that BuildKit should use; `fails` if it refuses the file. One word if both engines do the same. */
const CASES: [string, string, string, Omit<Case, 'dockerfile'>?][] = [
  ['a FROM in a comment', '# FROM IMG:b\nFROM IMG:a\n  # FROM IMG:c\nRUN true', 'a'],
  ['an argument', 'ARG T=a\nFROM IMG:$(T)\nRUN true', 'a'],
  ['an argument that is given', 'ARG T=a\nFROM IMG:$T\nRUN true', 'b', { buildArgs: { T: 'b' } }],
  ['an argument that no ARG declares', 'FROM IMG:$(T:-a)\nRUN true', 'a', { buildArgs: { T: 'b' } }],
  ['an argument of an argument', 'ARG A=a\nARG B=$(A:+b)$(C:-)\nFROM IMG:$B\nRUN true', 'b'],
  ['quotes and escapes', 'ARG A="a" B=\'b\'\nFROM "IMG":\\$B\nRUN true', 'fails'],
  ['quotes', 'ARG A="a"\nFROM "IMG:"\'\'$A\nRUN true', 'a'],
  ['an ARG inside of a stage', 'FROM IMG:a AS x\nARG T=b\nFROM IMG:$(T:-c)\nRUN true', 'c'],
  ['a continuation with comments in it', 'FROM \\\n# FROM IMG:b\n\n  IMG:a \\\n  AS x\nRUN true', 'a'],
  ['another escape', '# escape=`\nFROM `\n IMG:a\nRUN echo \\\nCOPY --from=IMG:b /bin/sh /x', 'a b'],
  ['an escape that is too late', '# x\n# escape=`\nFROM `\n IMG:a', 'fails'],
  ['stages that are not needed', 'FROM IMG:a AS x\nFROM IMG:b AS y\nFROM x\nRUN true', 'a'],
  ['a target', 'FROM IMG:a AS x\nRUN true\nFROM IMG:b', 'a', { target: 'X' }],
  [
    'stages by number and by name',
    'FROM IMG:a\nFROM IMG:b AS X\nFROM IMG:c\nCOPY --from=x f* /1\nCOPY --from=0 f* /2\nRUN true',
    'a b c',
  ],
  ['a later stage', 'FROM IMG:a\nCOPY --from=x /bin/sh /x\nFROM IMG:b AS x', 'b'],
  ['a name that is taken twice', 'FROM IMG:a AS x\nFROM x AS x\nRUN true\nFROM x', 'a'],
  ['COPY --from an image', 'FROM IMG:a\nCOPY --chown=0 --from="IMG:b" /bin/sh /x', 'a b'],
  ['a variable in COPY --from', 'ARG T=b\nFROM IMG:a\nARG T\nCOPY --from=IMG:$T /bin/sh /x', 'fails'],
  ['what only looks like a flag', 'FROM IMG:a\nCOPY f --from=IMG:b /x/\n', 'fails'],
  ['flags in a command', 'FROM IMG:a\nRUN echo --mount=from=IMG:b\nCMD x --from=IMG:c', 'a'],
  ['mounts', 'FROM IMG:a\nRUN --mount=target=/m,FROM=IMG:b --mount=from=IMG:c,target=/n true', 'a b c'],
  ['a mount in quotes', `FROM IMG:a\nRUN --mount='type=bind,"from=IMG:b",target=/m' true`, 'a b'],
  ['JSON', 'FROM IMG:a\nCOPY --from=IMG:b ["/bin/sh", "/x"]\nRUN ["true"]', 'a b'],
  ['lower case', 'from IMG:a as x\ncopy --from=IMG:b /bin/sh /x', 'a b'],
  ['a byte order mark, and carriage returns', '\ufeffFROM IMG:a\r\nRUN true \\\r\n && true\r\n', 'a'],
  ['a digest, and its tag', 'FROM IMG:a@DIGEST AS x\nFROM IMG:a\nCOPY --from=x /bin/sh /x', 'a'],
  ['an ONBUILD of a stage', 'FROM IMG:a AS x\nONBUILD RUN true\nFROM x\nRUN true', 'a'],
  ['an ENV that is a number of things', 'FROM scratch AS x\nENV A="x y" B=$A\nFROM IMG:a\nRUN true', 'a'],
  ['an unknown instruction', 'FROM IMG:a\nEND', 'fails'],
  ['an unknown stage', 'FROM IMG:a', 'fails', { target: 'x' }],
  ['the platform', 'FROM --platform=$BUILDPLATFORM IMG:a AS linux\nFROM $TARGETOS\nRUN true', 'a'],
  ['a heredoc, which the old one does not know', 'FROM IMG:a\nRUN cat <<END\nFROM IMG:b\nEND\n', 'fails a'],
  [
    'several heredocs',
    `FROM IMG:a\nCOPY <<-"A" <<'B' /x/\nFROM IMG:b\n\tA\nFROM IMG:c\nB\nRUN true`,
    'fails a',
  ],
  ['what both read, each in its way', 'FROM IMG:a\nRUN cat <<RUN\nFROM IMG:b\nRUN\n', 'b a'],
  [
    'a quote before what would be a heredoc',
    "FROM IMG:a\nRUN echo it\\'s '<<END'\nCOPY --from=IMG:b /bin/sh /x",
    'a b',
  ],
  ['a pattern, which the old one does not know', 'ARG T=vax\nFROM IMG:$(T#v)\nRUN true', 'fails fails'],
  ['a pattern', 'ARG T=v.a\nFROM IMG:$(T#*.)\nRUN true', 'fails a'],
  ['a pattern at the end', 'ARG T=a-b-c\nFROM IMG:$(T%%-*)\nRUN true', 'fails a'],
]

describe.each([
  ['the BuildKit of Docker 20.10', oldEngine, 0],
  ['buildkitd 0.13', buildkitd, 1],
] as const)('%s takes what is read', (_, start, column) => {
  let subject: Subject
  beforeAll(async () => {
    subject = await start()
  })
  afterAll(() => subject[Symbol.asyncDispose]())

  test.each(CASES)('%s', async (_, dockerfile, expected, rest) => {
    const found = await both(subject, { dockerfile, ...rest })
    expect(found.told && [...found.told].sort()).toEqual(wanted(expected, column))
    expectAgreement(found, dockerfile)
  })

  test('even for Dockerfiles that nobody would write', async () => {
    const built: string[] = []
    const lines = fc.array(fc.constantFrom(...LINES), { minLength: 1, maxLength: 6 })
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('ARG T=a', 'ARG T=a\nFROM IMG:d AS x'), lines, async (first, more) => {
        const dockerfile = [first, ...more, 'FROM IMG:d', 'RUN true'].join('\n')
        const found = await both(subject, { dockerfile })
        if (found.told && !found.reading.unreadable) built.push(dockerfile)
        expectAgreement(found, dockerfile)
      }),
      { numRuns: 120, seed: 7 },
    )
    // Most are refused, which proves little.
    expect(built.length).toBeGreaterThan(20)
  })
})

/** Null for a file that is refused. If the table has two words, they are for the old engine and the new one. */
function wanted(expected: string, column: number): string[] | null {
  const words = expected.split(' ')
  const own = SPLIT.has(expected) ? [words[column] ?? ''] : words
  return own[0] === 'fails' ? null : own
}

const SPLIT = new Set(['fails a', 'fails fails', 'b a'])

const LINES = [
  'FROM IMG:a AS x',
  'FROM IMG:$T AS y',
  'FROM x',
  'FROM IMG:b as z',
  'ARG T=b',
  'ARG T',
  'COPY --from=X /bin/sh /x',
  'COPY --from=0 /bin/sh /x',
  'COPY --from=IMG:c /bin/sh /y',
  'RUN --mount=from=IMG:c,target=/m true',
  'RUN --mount=from=y,target=/m true \\',
  '# FROM IMG:c',
  'RUN cat <<END \\',
  'RUN true <<END',
  'END',
  '\tEND',
  'RUN cat <<-"END"',
  'RUN cat << END',
  'COPY <<END /here',
  '\\',
  '#escape=`',
  'RUN true `',
  '',
  'ENV T=c \\',
  'ONBUILD COPY f /f',
]
