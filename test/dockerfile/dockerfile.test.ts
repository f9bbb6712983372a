import { expect, test } from 'vitest'
import { InvalidDockerfile } from '../../src/lib/dockerfile/errors.ts'
import { externalImages, readImages } from '../../src/lib/dockerfile/external-images.ts'
import { substitute, UNKNOWN } from '../../src/lib/dockerfile/shell-word.ts'
import { threadTime } from '../support/timing/thread-time.ts'

/**
 * What test/dockerfile/engines.test.ts cannot test with its engines: other versions, names on other hosts, and limits.
 */

type Settings = Parameters<typeof readImages>[1]
const NOTHING: Settings = { buildArgs: {}, target: null, contexts: {} }
const DIGEST = `sha256:${'1'.repeat(64)}`
/** `$«X»` stands for `${X}`. */
const braced = (text: string) => text.replaceAll('«', '{').replaceAll('»', '}')
/** The names, without the fields that are the same for all. */
const read = (text: string, settings: Partial<Settings> & Parameters<typeof readImages>[1] = NOTHING) => {
  const { images, unknown, remoteFiles } = externalImages(braced(text), settings)
  const short = images.map((name) => name.replace('docker.io/library/', '').replace(/:latest$/, ''))
  return [...short, ...(unknown ? ['?'] : []), ...(remoteFiles ? ['remote'] : [])].join(' ')
}

test.each([
  ['FROM a', 'a'],
  ['FROM scratch', ''],
  ['FROM Scratch', '?'],
  ['FROM a/b:1', 'docker.io/a/b:1'],
  ['', '?'],
  ['RUN true', '?'],
  ['ARG X', '?'],
  ['FROM a b', '?'],
  ['FROM a AS 1', '?'],
  ['FROM a AS b\nFROM B', '?'],
  // Values that are not known for certain.
  ['FROM a-$TARGETARCH', '?'],
  ['ARG TARGETARCH\nFROM a-$«TARGETARCH:-x»', '?'],
  ['ARG V\nFROM a:$V', '?'],
  ['ARG V\nFROM a$V', 'a'],
  ['ARG V\nFROM a$«V-x»', '?'],
  ['ARG V\nFROM a$«V:-x»', 'ax'],
  ['FROM a AS b-amd64\nCOPY --from=t x /\nFROM b-$TARGETARCH', 'a t ?'],
  ['FROM a\nCOPY --from=7 x /', 'a ?'],
  // Substitution.
  ['ARG A=1 B=2\nFROM a:$A$B', 'a:12'],
  ['ARG A=$«X:-$«Y:-y»»\nFROM $A', 'y'],
  ["ARG A='$X'\nFROM $A", '?'],
  ['ARG A=b.c.d\nFROM $«A#*.»', 'c.d'],
  ['ARG A=b.c.d\nFROM $«A##*.»', 'd'],
  ['ARG A=b.c.d\nFROM $«A%.*»', 'b.c'],
  ['ARG A=b.c.d\nFROM $«A%%.?*»', 'b'],
  ['ARG A=b.c.d\nFROM $«A/./-»', 'b-c.d'],
  ['ARG A=b.c.d\nFROM $«A//./-»', 'b-c-d'],
  ['ARG A=b\nFROM $«A:?no»', 'b'],
  ['FROM $«A:?no»', '?'],
  ['FROM $«A~b»', '?'],
  ['FROM $«A', '?'],
  [`FROM "a`, '?'],
  // Heredocs, for frontends that know them and for those that do not.
  ['FROM a\nRUN <<E\nFROM b\nE', 'a'],
  ['FROM a\nRUN << E\nFROM b\nE', 'a'],
  ['FROM a\nRUN <<-"E" cat <<F\nx\n\tE\nFROM b\nF\nFROM c', 'c'],
  ['FROM a\nRUN <<E\nFROM b', 'b'],
  ['FROM a\nRUN cat <<RUN\nFROM b\nRUN', 'a b'],
  ['FROM a\nRUN ["cat", "<<E"]\nFROM b', 'b'],
  ['FROM a\nRUN ["cat"] <<E\nFROM b\nE\n', '?'],
  ['FROM a\nRUN [ "$X" = y ] || cat <<E\nFROM b\nE\n', 'a'],
  ["FROM a\nRUN echo don't <<E\nFROM b", 'b'],
  ['FROM a\nRUN echo $«x#y» <<E\nFROM b\nE', '?'],
  ['FROM a\nONBUILD RUN <<E\nFROM b\nE\nFROM c', 'c'],
  // Directives.
  ['# syntax=docker/dockerfile:1\nFROM a', 'docker.io/docker/dockerfile:1 a'],
  ['#!/x\n#syntax = reg.lan/docker/dockerfile:1.7 x\nFROM a', 'reg.lan/docker/dockerfile:1.7 a'],
  ['# syntax=acme/other\nFROM a', 'docker.io/acme/other a ?'],
  ['# other\n# syntax=acme/other\nFROM a', 'a'],
  [
    '# syntax=docker/dockerfile\n# syntax=docker/dockerfile:2\nFROM a',
    'docker.io/docker/dockerfile docker.io/docker/dockerfile:2 ?',
  ],
  ['// syntax=acme/other\nFROM a', 'docker.io/acme/other ?'],
  ['#\u00a0syntax=docker/dockerfile:1\nFROM a', 'docker.io/docker/dockerfile:1 ?'],
  ['#\u00a0escape=`\nFROM a', '?'],
  ['#\u00a0other=1\n# escape=`\nFROM \\\na', 'a'],
  ['{"syntax": "acme/other"}', '?'],
  ['# check=skip=all\n# escape=`\nFROM a', '?'],
  ['# escape=x\nFROM a', '?'],
  // Stages.
  ['FROM a AS x\nONBUILD COPY --from=t f /\nFROM x', 't a'],
  ['FROM a AS x\nONBUILD COPY --from=t f /\nFROM x AS y\nFROM y', 't a'],
  ['FROM a AS x\nONBUILD COPY --from=t f /', 'a'],
  ['FROM a AS x\nONBUILD FROM b\nFROM x', '?'],
  ['FROM a\nRUN --mount=from=0 true', 'a 0'],
  ['FROM a\nRUN --mount=type=cache,target=/x true', 'a'],
  ['FROM a\nRUN --mount="type=bind,from=b" --mount=from=c,from=d true', 'a b d'],
  // Files from elsewhere.
  ['FROM a\nADD https://x.lan/y /', 'a remote'],
  ['FROM a\nADD git@x.lan:y.git /', 'a remote'],
  ['FROM a\nADD x.lan/y.git#main /', 'a remote'],
  ['FROM a\nADD $X /', 'a remote'],
  ['FROM a\nADD ./$X /', 'a'],
  ['FROM scratch\nADD $X /', ''],
  ['FROM a\nARG X=y\nADD $X pkg@1.tgz /', 'a'],
  ['FROM a\nENV X https://x.lan\nADD $X/y /', 'a remote'],
  ['FROM a AS b\nENV X=https://x.lan\nFROM b\nADD $X/y /', 'a remote'],
  ['FROM a AS b\nADD https://x.lan/y /\nFROM c', 'c'],
  ['FROM a\nADD ["https://x.lan/y", "/"', 'a remote'],
  // The build's time from elsewhere.
  ['ARG SOURCE_DATE_EPOCH=b\nFROM scratch AS b\nADD https://x.lan/y /\nFROM a', 'a remote'],
  ['ARG B=b\nARG SOURCE_DATE_EPOCH=$B\nFROM a', 'a remote'],
  ['ARG SOURCE_DATE_EPOCH=$TARGETARCH\nFROM a', 'a remote'],
  ['ARG SOURCE_DATE_EPOCH=1704164645\nFROM a', 'a'],
  ['ARG SOURCE_DATE_EPOCH=context\nFROM a', 'a'],
  ['ARG SOURCE_DATE_EPOCH=\nFROM a', 'a'],
  ['ARG SOURCE_DATE_EPOCH\nFROM a', 'a'],
  ['FROM a\nARG SOURCE_DATE_EPOCH=b', 'a'],
])('%j takes %j', (text, images) => {
  expect(read(text)).toBe(images)
})

test('build settings', () => {
  const from = (settings: Partial<Settings>) =>
    read('ARG V=1\nARG TARGETARCH\nFROM a:$V AS x\nFROM b-$TARGETARCH AS y', { ...NOTHING, ...settings })
  expect(from({})).toBe('a:1 ?')
  expect(from({ buildArgs: { V: '2', TARGETARCH: 'arm' } })).toBe('b-arm')
  expect(read('FROM a', { ...NOTHING, buildArgs: { BUILDKIT_SYNTAX: 'acme/x' } })).toBe(
    'docker.io/acme/x a ?',
  )
  const other = { ...NOTHING, buildArgs: { V: '2' }, target: 'X' }
  expect(read('ARG V=1\nFROM a:$V AS x\nFROM b', other)).toBe('a:2')
  expect(read('FROM a AS x', { ...NOTHING, target: 'z' })).toBe('?')
  const dated = (epoch: string) =>
    read('ARG SOURCE_DATE_EPOCH=b\nFROM a', { ...NOTHING, buildArgs: { SOURCE_DATE_EPOCH: epoch } })
  expect([dated('1704164645'), dated('c')]).toEqual(['a', 'a remote'])
  // Properties of Object.prototype are not variables.
  expect(read('FROM a$constructor')).toBe('a')
})

test('named contexts, by the names that BuildKit uses for them', () => {
  const contexts = {
    base: `docker-image://n:24@${DIGEST}`,
    'reg.lan/tool': 'docker-image://t',
    docs: 'https://git.lan/docs.git#main',
    x: 'docker-image://y',
  }
  const of = (text: string, more = {}) => read(text, { ...NOTHING, contexts: { ...contexts, ...more } })
  expect(of('FROM base')).toBe(`n:24@${DIGEST}`)
  expect(of('FROM docker.io/library/base:latest')).toBe(`n:24@${DIGEST}`)
  expect(of('FROM base:1')).toBe('base:1')
  expect(of('FROM a\nCOPY --from=docs / /\nCOPY --from=reg.lan/tool / /')).toBe('a t')
  expect(of('FROM a AS x\nFROM x')).toBe('y')
  expect(of('FROM base', { 'base::linux/arm64': 'docker-image://z' })).toBe('?')
  expect(readImages('FROM base\nFROM base', { ...NOTHING, contexts }).replaced).toEqual(['base'])
})

test('an unknown value stays unknown', () => {
  const value = (text: string) =>
    substitute(braced(text), '\\', (name) => (name === 'X' ? UNKNOWN : undefined))
  for (const text of ['$X', 'a$«X:-b»', '$«X+b»', '$«X#a»', '$«X/a/b»', '$«Y:-$X»']) {
    expect(value(text), text).toContain(UNKNOWN)
  }
  expect(value('\\$X$«Y:+$X»')).toBe('$X')
  expect(() => value('$«Y?$X»')).toThrow(InvalidDockerfile)
})

const times = (text: string, count: number) => text.repeat(count).slice(0, (1 << 17) - 100)
test.each<[string, string]>([
  ['stages', times('FROM a AS b\n', 90_000)],
  ['continuations', times('FROM a\\\n', 130_000)],
  ['braces', `ARG A=${times('$«x:-', 200_000)}`],
  ['quotes', `FROM a\nENV A=${times('"\'\\', 340_000)}`],
  ['doublings', Array.from({ length: 4_000 }, (_, n) => `ARG A${n + 1}=x$A${n}$A${n}`).join('\n')],
  ['heredocs in one line', `FROM a\nRUN ${times('<<E ', 250_000)}`],
  ['heredocs', `FROM a\n${times('RUN <<E\nE\n', 100_000)}`],
  ['mounts', `FROM a\nRUN ${times('--mount=from=x,from=y ', 50_000)}`],
  ['spaces', `# a=${times(' ', 1 << 17)}x`],
  ['colons', `FROM ${times(':', 1 << 17)}`],
  ['at signs', `FROM a\nADD ${times('@', 1 << 17)} b`],
  ['patterns', `ARG A=${'a'.repeat(500)}\n${times('ARG B=$«A#*a*a*a*a*a*a*b»\n', 4_000)}FROM $B`],
  ['stages that are not known', times('FROM x$TARGETARCH AS a\n', 50_000)],
  ['triggers', `FROM a AS b\n${times('ONBUILD RUN --mount=from=q x\n', 1_500)}${times('FROM b\n', 9_000)}`],
  ['a list in lists', `FROM a\nADD ${times('[', 1 << 17)}`],
])('a Dockerfile of nothing but %s is parsed in time', (_, text) => {
  const taken = threadTime()
  const { images } = externalImages(braced(text), NOTHING)
  // A quadratic algorithm takes minutes for these.
  expect(taken()).toBeLessThan(5000)
  expect(images.length).toBeLessThanOrEqual(50)
})

test('more than fifty images, or more than 128 KiB, are too many', () => {
  const copies = Array.from({ length: 60 }, (_, n) => `COPY --from=x${n} a b`)
  const many = externalImages(['FROM a', ...copies].join('\n'), NOTHING)
  expect(many).toMatchObject({ unknown: true, images: { length: 50 } })
  expect(externalImages(`FROM a\n#${'x'.repeat(1 << 17)}`, NOTHING)).toMatchObject({
    unknown: true,
    images: [],
  })
  expect(externalImages(null, NOTHING)).toMatchObject({ unknown: true, images: [] })
})
