/**
 * Records which files Docker itself leaves out of a build context, for test/source/dockerignore.test.ts:
 *
 *     node test/support/context/record-dockerignore.ts [DOCKER [OUTPUT]]
 *
 * Needs a docker CLI with BuildKit (DOCKER, default `docker`) and an engine. Each ignore file filters the same small
 * tree through `COPY . /`. For each, the output has a `+` or `-` for every path, depending on whether it arrived, or
 * null if Docker rejected the file. Recorded with buildx 0.13; a CLI from before 2022 without buildx interprets `**`
 * differently.
 */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { argv } from 'node:process'
import { promisify } from 'node:util'

const run = promisify(execFile)

// biome-ignore format: one a line would be a page
const FILES = [
  '.dockerignore', '.env', '.git/HEAD', '.git/objects/ab/cd', '#hash', '!bang', 'Dockerfile', 'README.md',
  'a.txt', 'a/a', 'a/b/a.txt', 'a/b/c/a', 'a/b/c/d/e.md', 'a/keep', 'ab', 'b/a/b.txt', 'b/a.txt', 'b/ab',
  'docs/README.md', 'docs/img/logo.png', 'docs/x y.md', 'é/ü.txt', 'foo', 'foobar/foo',
  'node_modules/p/index.js', 'node_modules/p/node_modules/q/keep', 'src/foo.test.ts', 'src/foo.ts',
  'src/lib/foo', 'src/lib/foo.test.ts', 'src/xfoo', 'star*', 'x[1]', 'x1', 'x2', 'x-', '\\back', '{brace}',
  'p+q(r)', 'dollar$', 'caret^',
]

/** Each of these is an ignore file. */
// biome-ignore format: one pattern a line would be pages
const WRITTEN = [
  '', 'a', '/a', 'a/', '/a/', './a', 'a/.', 'b/../a', '//a//b', '../a', '.', '/', '..', 'a\r\nfoo\r', '\uFEFFa', '\uFEFF#a\nfoo',
  '#a', ' #hash', '\\#hash', '!bang', '\\!bang', 'foo\n!foo', '!foo\nfoo', '  a  ', '\ta\t', '! foo', '*\n! foo', '*\n!  /foo/ ',
  '*', '*\n!a', '*\n!a/b', '*\n!a/b/c', '*\n!a/keep', '*\n!**/keep', '*\n!*.md', '*\n!**/*.md', '*\n!src\nsrc/lib', '*\n!src\n**/*.test.ts',
  '**', '**\n!a', '**\n!a/b/**', '**\n!**/keep', '**/a', '**/a/**', '**/*', '**/**', 'a/**', 'a/**\n!a/keep', 'a/**\n!a/b', 'a/*', 'a/*\n!a/b',
  'a/*/c', 'a/**/a', 'a/**/e.md', 'a/**/d', '**/b/**', '**/b/*', '**/foo', '**foo', '**/lib/foo', 'src/**foo', 'src**', 's**c', '**.md', '***', '**/*.test.*', '*/**/foo',
  '*.md', '*.txt', '*/*.txt', '*/*/*.txt', '?', 'a?', '?b', 'x?', 'x[12]', 'x[1-9]', 'x[^1]', 'x[!1]', 'x\\[1\\]', 'x[\\-]', 'x[a\\-z]', '[ab]', '[^a]', 'a[/]a', 'a[^b]a', 'a?a',
  'star\\*', 'star*', 'star[\\*]', '\\\\back', '{brace}', 'p+q(r)', 'dollar$', 'dollar?', 'caret^', 'caret\\^', 'é', 'é/*', '?/ü.txt', '[é]', '[à-ü]',
  'docs/x y.md', 'docs/x*', 'docs\n!docs/img', 'docs\n!docs/img/logo.png', 'docs\n!docs/*.md', 'docs/\n!docs/', 'docs/img\n!docs', 'docs/*\n!docs/README.md',
  'a/b\n!a/b/c\na/b/c/d', 'a\n!a/b\na/b/c\n!a/b/c/d', 'a\n!a/b/c/d/e.md', '!a\na', 'a\n!a', 'a\n!a\na', '*\n!*', '*\n!*/\n', '*\n!a/*', '*\n!a/**', '*\n!a/b/*.txt',
  'node_modules', '**/node_modules', 'node_modules/**\n!node_modules/p/node_modules/q/keep', '.*', '.git', '.git*', '.??*', '.[^e]*', '.dockerignore', 'Dockerfile\n.dockerignore',
  '[', '[a', 'x[', 'x[]', 'x[^]', 'x[]1]', 'x[a-]', 'x[-a]', 'x[z-a]', 'a\\', '!', '! ', '!/', 'foo\n!\n', '!..', '!../..', '!.', 'a/[', '[\\', '[a\\]', 'x]', ']',
]

// biome-ignore format: one a line would be a page
const PARTS = [
  'a', 'b', 'c', 'd', 'foo', 'src', 'lib', 'docs', '*', '**', '?', 'a*', '*a', '*.txt', '*.md', 'f?o',
  '[a-c]', '[^a]', '*o*', 'x[0-9]', 'keep', 'foo*', '**a',
]

/** The same lists in every run. */
function generated(count: number): string[] {
  let state = 42
  const random = (below: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  const pattern = () => {
    const depth = 1 + random(3)
    const path = Array.from({ length: depth }, () => PARTS[random(PARTS.length)]).join('/')
    return `${random(5) < 2 ? '!' : ''}${random(8) === 0 ? '/' : ''}${path}${random(8) === 0 ? '/' : ''}`
  }
  return Array.from({ length: count }, () => Array.from({ length: 1 + random(5) }, pattern).join('\n'))
}

const [, , docker = 'docker', output = join(import.meta.dirname, 'dockerignore-cases.json')] = argv
const folder = await mkdtemp(join(tmpdir(), 'dockerignore-'))
try {
  const context = join(folder, 'context')
  for (const file of FILES) {
    await mkdir(join(context, dirname(file)), { recursive: true })
    await writeFile(join(context, file), '')
  }
  await writeFile(join(folder, 'Dockerfile'), 'FROM scratch\nCOPY . /\n')
  await writeFile(join(context, '.dockerignore'), '')
  const paths = (await arrived(context)) ?? []
  const cases: [text: string, arrived: string | null][] = []
  for (const text of new Set([...WRITTEN, ...generated(350)])) {
    await writeFile(join(context, '.dockerignore'), text)
    const there = await arrived(context)
    cases.push([text, there && paths.map((path) => (there.includes(path) ? '+' : '-')).join('')])
  }
  await writeFile(output, JSON.stringify({ files: FILES, paths, cases }))
} finally {
  await rm(folder, { recursive: true })
}

/** Paths in the image, directories with a trailing slash; null if Docker rejects the ignore file. */
async function arrived(context: string): Promise<string[] | null> {
  const archive = join(folder, 'out.tar')
  const args = ['build', '-q', '-f', join(folder, 'Dockerfile'), '-o', `type=tar,dest=${archive}`, context]
  try {
    await run(docker, args, { env: { ...process.env, DOCKER_BUILDKIT: '1' } })
  } catch (error) {
    if (/patterns?|exclusion/.test((error as { stderr: string }).stderr)) return null
    throw error
  }
  const { stdout } = await run('tar', ['-tf', archive, '--quoting-style=literal'])
  return stdout
    .split('\n')
    .filter((path) => path !== '' && path !== './')
    .sort()
}
