import { execFile } from 'node:child_process'
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { gitEnv } from '../support/git/repository.ts'
import { tempDir } from '../support/temp.ts'
import { histories } from './generate/histories.ts'
import { type Commit, type Entry, type History, toBuffer } from './generate/model.ts'
import { reductions } from './generate/reductions.ts'
import { comparableProbes, difference } from './image/compare.ts'
import { type Image, imageOf } from './image/image.ts'
import { readTar, type TarItem } from './image/tar-reader.ts'
import { MUTANTS, mutate } from './mutants.ts'
import { createRepository, filled } from './repository.ts'
import { script } from './script.ts'

const run = promisify(execFile)
const WORDS = { base: 'differential-base:once', run: 'once' }
const LOG = ['log', '--reverse', '--format=%T', 'main']

function item(path: string, more: Partial<TarItem> = {}): TarItem {
  return { path, type: 'file', mode: 0o644, uid: 0, gid: 0, link: '', content: Buffer.from(path), ...more }
}

describe('differences', () => {
  const image = (items: TarItem[], config = {}): Image => imageOf([items], config)
  const ours = (it: Image) => ({ image: it, failure: null, reused: false, ms: 1 })
  const failed = (kind: string) => ({
    image: null,
    failure: { kind, error: 'why' },
    reused: false,
    ms: 60_000,
  })
  const rules = { probes: new Set<string>(), timed: true }
  const one = image([item('a'), item('d', { type: 'directory', mode: 0o755 })], { Env: ['A=1'] })

  test('none between equal images, or if both builds fail', () => {
    expect(difference(ours(one), { image: one }, rules)).toBe(null)
    expect(difference(failed('build_failed'), { error: 'no' }, rules)).toBe(null)
  })

  test.each<[string, TarItem[], object]>([
    ['a path', [item('a'), item('d', { type: 'directory', mode: 0o755 }), item('b')], { Env: ['A=1'] }],
    [
      'bytes',
      [item('a', { content: Buffer.from('b') }), item('d', { type: 'directory', mode: 0o755 })],
      { Env: ['A=1'] },
    ],
    ['a mode', [item('a', { mode: 0o755 }), item('d', { type: 'directory', mode: 0o755 })], { Env: ['A=1'] }],
    ['an owner', [item('a', { uid: 5 }), item('d', { type: 'directory', mode: 0o755 })], { Env: ['A=1'] }],
    ['a type', [item('a'), item('d', { content: Buffer.alloc(0), mode: 0o755 })], { Env: ['A=1'] }],
    [
      'a link',
      [item('a', { type: 'symlink', link: 'd' }), item('d', { type: 'directory', mode: 0o755 })],
      { Env: ['A=1'] },
    ],
    ['the config', [item('a'), item('d', { type: 'directory', mode: 0o755 })], { Env: ['A=2'] }],
  ])('%s', (_, items, config) => {
    const other = image(items, config)
    expect(difference(ours(one), { image: other }, rules)).not.toBe(null)
    expect(difference(ours(other), { image: one }, rules)).not.toBe(null)
  })

  test('if only one build succeeds, or ours fails in any other way than build_failed', () => {
    expect(difference(failed('build_failed'), { image: one }, rules)).toContain('the reference built it')
    expect(difference(ours(one), { error: 'no' }, rules)).toContain('the reference failed')
    for (const kind of ['timeout', 'unavailable']) {
      expect(difference(failed(kind), { error: 'no' }, rules)).toContain(`failed with ${kind} after 60.0 s`)
    }
  })

  test('probes of files that may keep their time are not compared, but their results always are', () => {
    const probe = (answer: string) =>
      image([item(`probe/${Buffer.from('src/a').toString('hex')}`, { content: Buffer.from(answer) })])
    const differs = (probes: string[]) =>
      difference(ours(probe('older')), { image: probe('newer') }, { timed: true, probes: new Set(probes) })
    expect(differs(['src/b'])).toBe(null)
    expect(differs(['src/a'])).not.toBe(null)
    const out = (content: string) => image([item('out/a', { content: Buffer.from(content) })])
    expect(difference(ours(out('1')), { image: out('2') }, rules)).not.toBe(null)
    expect(difference(ours(out('1')), { image: out('2') }, { ...rules, timed: false })).toBe(null)
  })
})

test('which probes must agree: those of files that differ from all commits since the last build, or all', () => {
  const commit = (files: Record<string, string>, base: 1 | 2 = 1): Commit => ({
    base,
    tree: new Map(
      Object.entries(files).map(([path, content]): [string, Entry] => [
        path,
        { kind: 'file', content, executable: false },
      ]),
    ),
  })
  const built = commit({ Dockerfile: 'x', a: '1', b: '1' })
  const reused = commit({ Dockerfile: 'x', a: '2', b: '1' })
  expect([...comparableProbes(commit({ Dockerfile: 'x', a: '1', b: '1' }), [])]).toEqual([
    'Dockerfile',
    'a',
    'b',
  ])
  expect([...comparableProbes(commit({ Dockerfile: 'x', a: '2', b: '1', c: '1' }), [built])]).toEqual([
    'a',
    'c',
  ])
  expect([...comparableProbes(commit({ Dockerfile: 'x', a: '2', b: '2' }), [built, reused])]).toEqual(['b'])
  expect([...comparableProbes(commit({ Dockerfile: 'y', a: '1', b: '1' }), [built])]).toEqual([
    'Dockerfile',
    'a',
    'b',
  ])
  expect([...comparableProbes(commit({ Dockerfile: 'x', a: '1' }, 2), [built])]).toEqual(['Dockerfile', 'a'])
})

test('layers are stacked: files removed, replaced, emptied, linked', () => {
  const directory = { type: 'directory', content: Buffer.alloc(0) } as const
  const { files } = imageOf(
    [
      [
        item('d', directory),
        item('d/a'),
        item('d/b'),
        item('e', directory),
        item('e/a'),
        item('f', directory),
        item('f/a'),
        item('g'),
      ],
      [
        item('d/.wh.a'),
        item('e/.wh..wh..opq'),
        item('e/b'),
        item('f'),
        item('g', directory),
        item('h', { type: 'hardlink', link: 'd/b' }),
      ],
    ],
    {},
  )
  expect([...files.keys()].sort()).toEqual(['d', 'd/b', 'e', 'e/b', 'f', 'g', 'h'])
  expect(files.get('h')?.content.toString()).toBe('d/b')
  expect(files.get('f')?.type).toBe('file')
})

test.each(['gnu', 'pax', 'ustar'])('reads the output of tar (%s)', async (format) => {
  await using folder = await tempDir()
  const long = format === 'ustar' ? 'short' : 'n'.repeat(200)
  await mkdir(join(folder.path, 'in/deep'), { recursive: true })
  await writeFile(join(folder.path, 'in/deep', long), 'x'.repeat(1000), { mode: 0o755 })
  await writeFile(join(folder.path, 'in/ä'), '')
  await symlink(format === 'ustar' ? 'a' : 't'.repeat(150), join(folder.path, 'in/link'))
  await run('tar', ['--create', `--format=${format}`, '--sort=name', '--file=x.tar', 'in'], {
    cwd: folder.path,
  })
  const items = [...readTar(await readFile(join(folder.path, 'x.tar')))]
  expect(
    items.map(({ path, type, mode, link, content }) => [
      Buffer.from(path, 'latin1').toString(),
      type,
      mode,
      link.length,
      content.length,
    ]),
  ).toEqual([
    ['in', 'directory', 0o755, 0, 0],
    ['in/deep', 'directory', 0o755, 0, 0],
    [`in/deep/${long}`, 'file', 0o755, 0, 1000],
    ['in/link', 'symlink', 0o777, format === 'ustar' ? 1 : 150, 0],
    ['in/ä', 'file', 0o644, 0, 0],
  ])
})

describe('generated histories', () => {
  const some = (seed: number, numRuns = 20) =>
    fc.sample(histories({ isNew: true, clones: 50 }), { seed, numRuns })
  const text = (history: History) => JSON.stringify(history.commits.map(({ tree }) => [...tree]))

  test('the same seed generates the same', () => {
    expect(some(3).map(text)).toEqual(some(3).map(text))
    expect(some(3).map(text)).not.toEqual(some(4).map(text))
  })

  test('shrinking terminates, and keeps a Dockerfile', () => {
    for (const history of some(5, 5)) {
      let smallest = history
      let steps = 0
      for (let next = reductions(smallest).next(); !next.done; next = reductions(smallest).next()) {
        smallest = next.value
        expect(++steps).toBeLessThan(500)
      }
      expect(smallest.commits).toHaveLength(1)
      expect([...(smallest.commits[0]?.tree.keys() ?? [])].every((path) => /dockerfile/i.test(path))).toBe(
        true,
      )
    }
  })

  test('their script creates the same commits with git itself', async () => {
    await using folder = await tempDir()
    const bin = join(folder.path, 'bin')
    await mkdir(bin)
    await writeFile(join(bin, 'docker'), '#!/bin/sh\nexit 0\n', { mode: 0o755 })
    for (const [index, history] of some(6, 4).entries()) {
      const env = {
        ...gitEnv(),
        PATH: `${bin}:${process.env.PATH}`,
        TMPDIR: join(folder.path, `work${index}`),
      }
      await mkdir(env.TMPDIR)
      const file = join(folder.path, 'case.sh')
      const work = join(folder.path, 'case')
      // Both fill in the placeholders in the same way.
      const text = script(history)
        .replace('run=$(date +%s%N)', `run=${WORDS.run}`)
        .replace('folder=$(mktemp -d)', `folder=${work}; mkdir "$folder"`)
      await writeFile(file, text)
      await run('bash', [file], { env, cwd: folder.path })
      const made = await run('git', ['-C', join(work, 'differential/repository.git'), ...LOG], { env })
      await rm(work, { recursive: true })
      const repository = await createRepository(join(work, 'differential/repository.git'), WORDS)
      const trees: string[] = []
      for (const { tree } of history.commits) {
        const sha = await repository.commit(tree)
        trees.push(
          (await run('git', ['-C', repository.dir, 'rev-parse', `${sha}^{tree}`], { env })).stdout.trim(),
        )
      }
      expect(made.stdout.trim().split('\n')).toEqual(trees)
      await rm(work, { recursive: true })
    }
  })
})

test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  'the fault %s fits the source',
  async (_, mutant) => {
    await using folder = await tempDir()
    const src = await mutate(mutant, folder.path)
    for (const { file, to } of mutant.changes) {
      expect(await readFile(join(src, 'lib', file), 'utf8')).toContain(to)
    }
  },
)

test('placeholders are filled in everywhere', () => {
  const words = { ...WORDS, name: 'app', folder: '/repositories' }
  expect(filled('FROM @BASE@\nENV RUN=@RUN@ id=@RUN@', words)).toBe(
    'FROM differential-base:once\nENV RUN=once id=once',
  )
  expect(filled('../@NAME@-lib @FOLDER@', words)).toBe('../app-lib /repositories')
  expect(toBuffer('\xff')).toEqual(Buffer.from([255]))
})
