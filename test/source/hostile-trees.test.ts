import { execFileSync } from 'node:child_process'
import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { FileTimes } from '../../src/lib/buildkit/session/file-times.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { NO_SETTINGS } from '../../src/lib/core/settings.ts'
import { recipeOf } from '../../src/lib/pipeline/reuse/recipe.ts'
import type { BlobReader } from '../../src/lib/source/context/blob-reader.ts'
import { attributesMatter } from '../../src/lib/source/context/checkout-filters.ts'
import type { TreeFile } from '../../src/lib/source/context/git-tree.ts'
import { type GitMirrors, gitMirrors } from '../../src/lib/source/mirrors.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

/** Trees that no ordinary commit has: they do not delay other builds, and the error says what there is too much of. */

let server: GitServer
let temp: TempDir
let source: GitMirrors
let count = 0
beforeAll(async () => {
  server = await startGitServer()
  temp = await tempDir('conveyor-hostile-')
  source = gitMirrors({ dir: temp.path, url: server.urlTemplate, environment: basicEnv() })
})
afterAll(async () => {
  await source.close()
  await server[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

/**
 * The longest that a single piece of work may block the event loop: 250 ms; on a slow and busy machine, where new memory
 * and garbage collection take longer, a part of the whole, but less than 1 s.
 */
function expectShort(turn: ReturnType<typeof longestTurn>, part = 1 / 5): void {
  expect(turn.ms()).toBeLessThan(Math.max(250, Math.min(turn.total() * part, 1000)))
}

/** A line of git mktree. */
type Line = [mode: '100644' | '040000', oid: string, name: string]

/** A commit of a tree that is made of objects, in its own repository. */
async function commitOf(
  make: (repository: { blob(text: string): string; tree(lines: Line[]): string }) => string,
) {
  count += 1
  const name = `hostile/tree${count}`
  const repository = await server.create(name)
  await repository.commit({ Dockerfile: 'FROM scratch\n' })
  const git = (args: string[], input: string) =>
    execFileSync('git', ['-C', repository.dir, ...args], { input, encoding: 'utf8' }).trim()
  const tree = make({
    blob: (text) => git(['hash-object', '-w', '--stdin'], text),
    tree: (lines) =>
      git(
        ['mktree'],
        lines
          .map(([mode, oid, path]) => `${mode} ${mode === '040000' ? 'tree' : 'blob'} ${oid}\t${path}\n`)
          .join(''),
      ),
  })
  const sha = await repository.git(
    '-c',
    'user.name=x',
    '-c',
    'user.email=x@y',
    'commit-tree',
    '-m',
    'x',
    tree,
  )
  await repository.git('update-ref', 'refs/heads/main', sha)
  return source.fetch(name, sha)
}

async function refusal(work: Promise<unknown>): Promise<ConveyorError> {
  const thrown = await work.then(
    () => new Error('it was not refused'),
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(ConveyorError)
  expect(thrown).toMatchObject({ kind: 'build_failed', retryable: false })
  return thrown as ConveyorError
}

describe('limits', () => {
  test('a tree bomb is read only up to the limit, and uses little memory', async () => {
    const commit = await commitOf(({ blob, tree }) => {
      const dockerfile = blob('FROM scratch\n')
      let nested = tree(Array.from({ length: 10 }, (_, i): Line => ['100644', dockerfile, `f${i}`]))
      for (let level = 0; level < 11; level++) {
        const inside = nested
        nested = tree(Array.from({ length: 10 }, (_, i): Line => ['040000', inside, `d${i}`]))
      }
      return tree([
        ['100644', dockerfile, 'Dockerfile'],
        ['040000', nested, 'bomb'],
      ])
    })
    const before = process.memoryUsage().rss
    const turn = longestTurn()
    const error = await refusal(source.context(commit))
    expectShort(turn)
    expect(error.message).toBe('the commit has more than 500000 files, which exceeds the limit')
    expect((process.memoryUsage().rss - before) / 2 ** 20).toBeLessThan(200)
  })

  test('nested directories, and the length of one path', async () => {
    const chain = (depth: number, name: string) =>
      commitOf(({ blob, tree }) => {
        const dockerfile = blob('FROM scratch\n')
        let nested = tree([['100644', dockerfile, 'x']])
        for (let level = 0; level < depth; level++) nested = tree([['040000', nested, name]])
        return tree([
          ['100644', dockerfile, 'Dockerfile'],
          ['040000', nested, 'deep'],
        ])
      })
    const deep = await refusal(source.context(await chain(600, 'a')))
    expect(deep.message).toBe('the commit has more than 500 nested directories, which exceeds the limit')
    const long = await refusal(source.context(await chain(30, 'n'.repeat(200))))
    expect(long.message).toMatch(/^the commit has a path of more than 4095 bytes: "deep\/n+\.\.\."$/)
    const name = await commitOf(({ blob, tree }) => {
      const dockerfile = blob('FROM scratch\n')
      return tree([
        ['100644', dockerfile, 'Dockerfile'],
        ['100644', dockerfile, 'n'.repeat(300_000)],
      ])
    })
    expect((await refusal(source.context(name))).message).toMatch(
      /^the commit has a path of more than 4095 bytes/,
    )
  })

  test('the total length of all paths, including directories', async () => {
    const commit = await commitOf(({ blob, tree }) => {
      const dockerfile = blob('FROM scratch\n')
      const leaf = tree([['100644', dockerfile, 'x']])
      let wide = tree(Array.from({ length: 1000 }, (_, i): Line => ['040000', leaf, `${i}`]))
      for (let level = 0; level < 19; level++) wide = tree([['040000', wide, 'n'.repeat(190)]])
      const inside = wide
      wide = tree(Array.from({ length: 100 }, (_, i): Line => ['040000', inside, `${i}`]))
      return tree([
        ['100644', dockerfile, 'Dockerfile'],
        ['040000', wide, 'wide'],
      ])
    })
    expect((await refusal(source.context(commit))).message).toBe(
      'the commit has more than 64 MiB of paths, which exceeds the limit',
    )
  })

  test('a Dockerfile and an ignore file of more than 1 MiB', async () => {
    const long = `${'\n'.repeat(1 << 20)}FROM scratch\n`
    const commit = await commitOf(({ blob, tree }) => tree([['100644', blob(long), 'Dockerfile']]))
    expect((await refusal(source.context(commit))).message).toMatch(/^Dockerfile in .* is larger than 1 MiB$/)
    const ignored = await commitOf(({ blob, tree }) =>
      tree([
        ['100644', blob(long), '.dockerignore'],
        ['100644', blob('FROM scratch\n'), 'Dockerfile'],
      ]),
    )
    expect((await refusal(source.context(ignored))).message).toMatch(
      /^\.dockerignore in .* is larger than 1 MiB$/,
    )
  })
})

test('a tree near the file limit is processed without blocking the event loop', async () => {
  const commit = await commitOf(({ blob, tree }) => {
    const dockerfile = blob('FROM scratch\n')
    const ignore = blob(Array.from({ length: 5000 }, (_, i) => `*${i}*x\n**/*.o${i}\nd1/e${i}\n`).join(''))
    const files = tree(Array.from({ length: 100 }, (_, i): Line => ['100644', dockerfile, `f${i}`]))
    const inner = tree(Array.from({ length: 50 }, (_, i): Line => ['040000', files, `e${i}`]))
    return tree([
      ['100644', ignore, '.dockerignore'],
      ['100644', dockerfile, 'Dockerfile'],
      ...Array.from({ length: 90 }, (_, i): Line => ['040000', inner, `d${i}`]),
    ])
  })
  const turn = longestTurn()
  await using context = await source.context(commit).then((it) => ({
    ...it,
    [Symbol.asyncDispose]: () => it.close(),
  }))
  expect(context.entries.length).toBeGreaterThan(440_000)
  await recipeOf(context, NO_SETTINGS, null)
  const times = await FileTimes.of(context, null, 'basis')
  await FileTimes.of(context, await times.allNew().encode(0), 'basis')
  // The growth of a map that holds all files is a hundredth of the whole.
  expectShort(turn, 1 / 20)
})

test('so is one of files in Git LFS, of which .lfsconfig selects some', async () => {
  const commit = await commitOf(({ blob, tree }) => {
    const pointer = blob(
      `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 12345\n`,
    )
    const files = tree(Array.from({ length: 100 }, (_, i): Line => ['100644', pointer, `f${i}`]))
    const inner = tree(Array.from({ length: 50 }, (_, i): Line => ['040000', files, `e${i}`]))
    return tree([
      ['100644', blob('* filter=lfs\n'), '.gitattributes'],
      ['100644', blob('[lfs]\n\tfetchinclude = d*/e?/\n'), '.lfsconfig'],
      ['100644', blob('FROM scratch\n'), 'Dockerfile'],
      ...Array.from({ length: 6 }, (_, i): Line => ['040000', inner, `d${i}`]),
    ])
  })
  const turn = longestTurn()
  await using context = await source.context(commit).then((it) => ({
    ...it,
    [Symbol.asyncDispose]: () => it.close(),
  }))
  expectShort(turn)
  // Those in e0 to e9; the others stay pointers.
  expect(context.entries.filter(({ size }) => size === 12345)).toHaveLength(6 * 10 * 100)
})

/** Each in a folder of its own. */
const attributesFiles = Array.from({ length: 5000 }, (_, i): TreeFile => {
  const path = `d${i}/.gitattributes`
  return { path, rawPath: Buffer.from(path), kind: 'file', oid: `${i}`, size: 10 }
})

/** Counts reads, and how many of them were pending at once. */
function counting(relevant: string) {
  const reads = { all: 0, pending: 0, most: 0 }
  const readSmall: BlobReader['readSmall'] = async (oid) => {
    reads.all += 1
    reads.pending += 1
    reads.most = Math.max(reads.most, reads.pending)
    await setImmediate()
    reads.pending -= 1
    return Buffer.from(oid === relevant ? '* eol=crlf' : '* -text')
  }
  return { reads, reader: { readSmall } as BlobReader }
}

test('many different attributes files are read a part at a time, as each read listens to the signal', async () => {
  const { reads, reader } = counting('none')
  expect(await attributesMatter(attributesFiles, reader)).toBe(false)
  expect(reads).toEqual({ all: 5000, pending: 0, most: 1000 })
})

test('after one that matters, the rest are not read', async () => {
  const { reads, reader } = counting('1500')
  expect(await attributesMatter(attributesFiles, reader)).toBe(true)
  expect(reads.all).toBe(2000)
})

test('none is read if one is too large to search', async () => {
  const { reads, reader } = counting('none')
  const large = { ...(attributesFiles[0] as TreeFile), oid: 'large', size: 1 << 20 }
  expect(await attributesMatter([...attributesFiles, large], reader)).toBe(true)
  expect(reads.all).toBe(0)
})
