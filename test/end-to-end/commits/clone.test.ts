import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { gitMirrors } from '../../../src/lib/source/mirrors.ts'
import { materialise } from '../../support/context/on-disk.ts'
import { startBuildkitd } from '../../support/engines/buildkitd.ts'
import { gitEnv } from '../../support/git/repository.ts'
import { type GitServer, startGitServer } from '../../support/git/server.ts'
import { imageConfig } from '../../support/images/pushed-image.ts'
import { basicEnv, type ConveyorServer, projectRoot } from '../../support/processes.ts'
import { type TempDir, tempDir } from '../../support/temp.ts'
import { buildLog, pushToEnd, startWorld, type World } from '../../support/world.ts'

/** What a build gets of a commit besides its own files: submodules, and a `.git` folder. */

const run = promisify(execFile)
const FLAGS = ['--build.git', 'acme/git:true']
let world: World
let server: ConveyorServer
let temp: TempDir
beforeAll(async () => {
  world = await startWorld({ flags: FLAGS })
  server = await world.startServer()
  temp = await tempDir('conveyor-clones-')
})
afterAll(async () => {
  await world[Symbol.asyncDispose]()
  await temp[Symbol.asyncDispose]()
})

async function push(repository: string, sha: string) {
  const { build, log } = await pushToEnd(world, server, { repository, sha })
  expect(build.state, log).toBe('succeeded')
  const printed = [...log.matchAll(/^#\d+ \d+\.\d+ (.*)$/gm)].map(([, line]) => line)
  return { build, log, printed }
}

const module = (path: string, url: string) => `[submodule "${path}"]\n\tpath = ${path}\n\turl = ${url}\n`

/** What git says in a folder, without a network. */
async function git(folder: string, ...args: string[]): Promise<string> {
  const env = { ...gitEnv(), GIT_ALLOW_PROTOCOL: 'none' }
  return (await run('git', args, { cwd: folder, env })).stdout.trimEnd()
}

/** The files of an image's last layer. */
async function unpacked(reference: string): Promise<string> {
  const { manifest } = await imageConfig(reference)
  const [name = ''] = reference.replace(`${world.registry.host}/`, '').split('@')
  const answer = await fetch(`${world.registry.url}/v2/${name}/blobs/${manifest.layers.at(-1)?.digest}`)
  const folder = join(temp.path, randomUUID())
  await mkdir(folder)
  await writeFile(`${folder}.tgz`, new Uint8Array(await answer.arrayBuffer()))
  await run('tar', ['-xzf', `${folder}.tgz`, '-C', folder])
  return folder
}

test('private submodules are in the image, and only what changed in them is sent again', async () => {
  const lib = await world.git.create('acme/private-lib')
  const files = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`src/${i}`, `${i}`]))
  const first = await lib.commit({ ...files, 'say.sh': { content: 'echo one\n', mode: 0o755 } })
  const app = await world.git.create('acme/with-lib')
  const sha = await app.commit({
    Dockerfile: `FROM conveyor-test/busybox:1\nCOPY . /app\nRUN echo ${randomUUID()} >/dev/null; sh /app/vendor/lib/say.sh; ls /app/vendor/lib/src | wc -l\n`,
    'vendor/lib': { submodule: first },
    '.gitmodules': module('vendor/lib', '../private-lib.git'),
  })
  const one = await push('acme/with-lib', sha)
  expect(one.printed).toEqual(['one', '20'])
  expect(one.log).toMatch(/^fetching acme\/private-lib@\w{7} from 127\.0\.0\.1:\d+$/m)

  const second = await lib.commit({ 'say.sh': 'echo two\n' })
  const moved = await app.commit({ 'vendor/lib': { submodule: second } })
  const two = await push('acme/with-lib', moved)
  expect(two.printed).toEqual(['two', '20'])
  expect(two.log).toContain('building: vendor/lib changed since')
  expect(two.log).toMatch(/steps cached, 1 file sent\)/)

  // The same pin under another commit is the same image.
  const reverted = await app.commit({ 'vendor/lib': { submodule: first } })
  expect((await push('acme/with-lib', reverted)).log).toContain('nothing to build: same content as')
})

test('--build.git: the image has a .git folder, with which git describes the commit', async () => {
  const repository = await world.git.create('acme/git')
  await repository.commit({
    Dockerfile: 'FROM scratch\nCOPY . /\n',
    '.dockerignore': 'docs\n',
    'docs/x': 'x',
  })
  await repository.git('tag', 'v1.2')
  const sha = await repository.commit({ a: 'a' })
  const { build, log } = await push('acme/git', sha)
  expect(log).toMatch(/^fetching the history of acme\/git@\w{7} from 127\.0\.0\.1:\d+$/m)
  const image = await unpacked(build.image ?? '')
  const described = `v1.2-1-g${sha.slice(0, 7)}`
  expect(await git(image, 'describe', '--tags', '--dirty')).toBe(described)
  expect(await git(image, 'rev-parse', 'HEAD')).toBe(sha)
  expect(await git(image, 'config', 'remote.origin.url')).toBe(`${world.git.url}/acme/git.git`)
  await rm(join(image, 'a'))
  expect(await git(image, 'describe', '--tags', '--dirty')).toBe(`${described}-dirty`)

  // From another machine's mirrors, BuildKit has every byte already.
  const elsewhere = await world.startServer({ env: { DATA_DIR: join(temp.path, 'elsewhere') } })
  await repository.commit({ other: 'x' }, { branch: 'other' })
  await repository.git('tag', 'v9', 'other')
  const again = await buildLog(elsewhere, await world.push(elsewhere, { repository: 'acme/git', sha }))
  expect(again).toMatch(/build \d+\.\d+ s \((\d+) of \1 steps? cached/)
  await elsewhere.kill()

  // The same files, but another commit.
  const empty = await repository.commit({})
  const next = await push('acme/git', empty)
  expect(next.log).not.toContain('nothing to build')
  expect(await git(await unpacked(next.build.image ?? ''), 'describe', '--tags')).toBe(
    `v1.2-2-g${empty.slice(0, 7)}`,
  )
  const same = await world.push(server, { repository: 'acme/git', sha: empty, branch: 'same' })
  expect(await buildLog(server, same)).toContain('nothing to build: this commit was built before')
})

test('git says the same as in the context of BuildKit with BUILDKIT_CONTEXT_KEEP_GIT_DIR', async () => {
  await using open: GitServer = await startGitServer()
  const lib = await open.create('acme/lib')
  const pinned = await lib.commit({ f: 'f\n', 'run.sh': { content: '#!/bin/sh\n', mode: 0o755 } })
  const repository = await open.create('acme/kept')
  const sha = await repository.commit({
    Dockerfile: 'FROM scratch\nCOPY . /\n',
    'dir/file': 'one\n',
    link: { symlink: 'dir' },
    lib: { submodule: pinned },
    '.gitmodules': module('lib', `${open.url}/acme/lib.git`),
  })
  const [kept, ours] = [join(temp.path, 'kept'), join(temp.path, 'ours')]
  {
    await using buildkitd = await startBuildkitd({ withGit: true })
    const buildctl = join(projectRoot, '.conveyor/buildkitd/buildctl')
    const args = [
      '--addr',
      buildkitd.socket,
      'build',
      '--frontend',
      'dockerfile.v0',
      '--output',
      `type=local,dest=${kept}`,
    ]
    const context = ['--opt', `context=${open.url}/acme/kept.git#${sha}`]
    await run(buildctl, [...args, ...context, '--opt', 'build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR=1'])
  }
  const source = gitMirrors({
    ...{ dir: join(temp.path, 'mirrors'), url: open.urlTemplate, environment: basicEnv() },
    gitFolder: () => true,
  })
  const context = await source.context(await source.fetch('acme/kept', sha))
  await materialise(context, ours)
  await context.close()
  await source.close()
  expect((await readdir(ours)).sort()).toEqual((await readdir(kept)).sort())
  for (const folder of ['.', 'lib']) {
    for (const question of [
      ['rev-parse', 'HEAD', 'HEAD^{tree}'],
      ['describe', '--always', '--dirty', '--tags'],
      ['status', '--porcelain'],
      ['ls-files', '--stage'],
      ['log', '-1', '--format=%H %an %cI %B'],
      ['archive', '--format=tar', '--output=../answer.tar', 'HEAD'],
    ]) {
      const answer = async (root: string) => {
        const said = await git(join(root, folder), ...question)
        return [said, await readFile(join(root, folder, '../answer.tar'), 'latin1').catch(() => '')]
      }
      const [mine, theirs] = [await answer(ours), await answer(kept)]
      expect([folder, question, mine]).toEqual([folder, question, theirs])
    }
  }
})
