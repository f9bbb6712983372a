import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Files } from '../../support/git/repository.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { pushToEnd, startWorld, type World } from '../../support/world.ts'

/** What of a commit is not in its tree: objects in Git LFS, and which commit it is. */

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ flags: ['--build.git-args', 'acme/args:true'] })
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

/** Pushes a commit; returns its state, and the output of its steps. */
async function push(repository: string, files: Files, branch = 'main') {
  const git = await world.git.create(repository)
  const sha = await git.commit(files, { branch })
  const { build, log } = await pushToEnd(world, server, { repository, sha, branch })
  const printed = [...log.matchAll(/^#\d+ \d+\.\d+ (.*)$/gm)].map(([, line]) => line)
  return { sha, build, log, printed }
}

test('files in Git LFS are in the image, and downloaded once', async () => {
  const large = randomBytes(3_000_000)
  const { lfs } = world.git
  const files = {
    Dockerfile: `FROM conveyor-test/busybox:1\nWORKDIR /app\nCOPY . .\nRUN echo ${randomUUID()} >/dev/null; cat small.bin; wc -c <large.bin; ls -l run.bin | cut -c1-10\n`,
    '.gitattributes': '*.bin filter=lfs diff=lfs merge=lfs -text\n',
    '.dockerignore': 'unused*\n',
    'small.bin': lfs.put('acme/lfs', 'from Git LFS\n'),
    'run.bin': { content: lfs.put('acme/lfs', '#!/bin/sh\n'), mode: 0o755 as const },
    'large.bin': lfs.put('acme/lfs', large),
    'unused.bin': lfs.put('acme/lfs', 'excluded'),
  }
  const first = await push('acme/lfs', files)
  expect(first.printed).toEqual(['from Git LFS', '3000000', '-rwxr-xr-x'])
  expect(first.build.state).toBe('succeeded')
  expect(first.log).toMatch(
    /^downloading what is needed of 3 objects in Git LFS, 3\.0 MB, from 127\.0\.0\.1:\d+$/m,
  )
  expect(lfs.downloads).toHaveLength(3)

  const second = await push('acme/lfs', { 'small.bin': lfs.put('acme/lfs', 'changed\n') })
  expect(second.printed).toEqual(['changed', '3000000', '-rwxr-xr-x'])
  expect(lfs.downloads).toHaveLength(4)

  const same = await push('acme/lfs', { 'unused.bin': lfs.put('acme/lfs', 'excluded, too') })
  expect(same.log).toContain(`nothing to build: same content as ${second.sha.slice(0, 7)}`)
  expect(lfs.downloads).toHaveLength(4)
})

test('a Dockerfile that declares the arguments of the commit gets them, and each commit is built', async () => {
  const Dockerfile = `FROM conveyor-test/busybox:1\nRUN echo ${randomUUID()}\nARG GIT_SHA GIT_BRANCH GIT_TAG=none SOURCE_DATE_EPOCH\nRUN echo $GIT_SHA $GIT_BRANCH $GIT_TAG $SOURCE_DATE_EPOCH\n`
  const first = await push('acme/args', { Dockerfile, '.dockerignore': '*.md\n' })
  expect(first.printed.at(-1)).toMatch(new RegExp(`^${first.sha} main none \\d{10}$`))
  const second = await push('acme/args', { 'a.md': 'not in the image' })
  expect(second.printed).toEqual([expect.stringMatching(new RegExp(`^${second.sha} main none \\d{10}$`))])

  const other = await push('acme/other', { Dockerfile })
  expect(other.printed.at(-1)).toBe('none')
})

test('a Dockerfile that declares none of them is built as without', async () => {
  const Dockerfile = `FROM conveyor-test/busybox:1\nRUN echo ${randomUUID()}\n`
  const first = await push('acme/args', { Dockerfile, '.dockerignore': '*.md\n' }, 'plain')
  const second = await push('acme/args', { 'a.md': 'not in the image' }, 'plain')
  expect(second.log).toContain(`nothing to build: same content as ${first.sha.slice(0, 7)}`)
})
