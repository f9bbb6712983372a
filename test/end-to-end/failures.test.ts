import { createHmac } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { statusDescription } from '../../src/lib/forge/github/github.ts'
import { startGate } from '../support/gates.ts'
import { oidIn, pointerTo } from '../support/git/lfs.ts'
import type { Files } from '../support/git/repository.ts'
import type { ConveyorServer } from '../support/processes.ts'
import {
  buildLog,
  GITHUB_TOKEN,
  pushToEnd,
  startWorld,
  WEBHOOK_SECRET,
  type World,
} from '../support/world.ts'

/** What users read when a push cannot become an image: in the log, the API and the commit status. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\n'
const POINTER = pointerTo('never uploaded')

let world: World
let server: ConveyorServer
beforeAll(async () => {
  // More workers than the number of listeners per signal at which Node warns.
  world = await startWorld({ flags: ['--workers', '16'] })
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

/** A new repository with one commit that no other repository has. */
async function commit(repository: string, files: Record<string, unknown>): Promise<string> {
  const git = await world.git.create(repository)
  return git.commit({ ...files, repository } as Files)
}

/** Pushes, and expects the same text in all three places. */
async function expectFailure(repository: string, sha: string, error: string, kind: string): Promise<string> {
  const { status, build, log } = await pushToEnd(world, server, { repository, sha })
  expect(build).toMatchObject({ state: 'failed', error, error_kind: kind, image: null })
  expect(status).toMatchObject({ state: 'failure', description: statusDescription(error) })
  expect(log.slice(log.indexOf('\nerror: '))).toBe(`\nerror: ${error}\n`)
  expect(server.stderr()).toContain(`build ${build.id}: ${repository}@${sha.slice(0, 7)} failed: ${error}\n`)
  return log
}

describe('a webhook is refused', () => {
  test('with another secret', async () => {
    const push = { repository: 'acme/web', sha: 'a'.repeat(40), ref: 'refs/heads/main' }
    const answer = await world.github.sendPush({ ...push, url: server.url, secret: 'not-the-secret' })
    expect(answer.status).toBe(401)
    expect(JSON.parse(answer.body)).toEqual({
      id: 'unauthorized',
      message: 'X-Hub-Signature-256 does not match the body',
      hint: 'Set the same secret for the webhook on GitHub and for Conveyor (GITHUB_SECRET)',
    })
  })

  test('with a body that is not JSON', async () => {
    const body = '{"ref": "refs/heads/main", '
    const answer = await fetch(server.url, {
      method: 'POST',
      body,
      headers: {
        'content-type': 'application/json',
        'x-github-event': 'push',
        'x-github-delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958',
        'x-hub-signature-256': `sha256=${createHmac('sha256', WEBHOOK_SECRET).update(body).digest('hex')}`,
      },
    })
    expect(answer.status).toBe(400)
    expect(await answer.json()).toMatchObject({
      id: 'invalid',
      message: 'the body is not JSON: unexpected end at position 27 of 27 characters',
    })
  })
})

describe('the commit cannot be fetched', () => {
  test('of an unknown repository', async () => {
    const host = new URL(world.git.url).host
    const error = `${host} has no repository acme/nowhere. Check the name, and that the credentials have access to it: GitHub hides private repositories from users without access`
    await expectFailure('acme/nowhere', 'a'.repeat(40), error, 'not_found')
  })

  test('of a sha that was never pushed', async () => {
    await commit('acme/rewritten', { Dockerfile: DOCKERFILE })
    const error = `${new URL(world.git.url).host} has no commit bbbbbbb in acme/rewritten. Check the sha, and that it was pushed; a force push may have removed it`
    await expectFailure('acme/rewritten', 'b'.repeat(40), error, 'not_found')
  })

  test('with an invalid token, which cannot set the status either', async () => {
    const repository = 'acme/private'
    const sha = await commit(repository, { Dockerfile: DOCKERFILE })
    await using other = await startWorld({ env: { GIT_URL: world.git.urlTemplate, GITHUB_TOKEN: 'ghp_old' } })
    await using refused = await other.startServer()
    const id = await other.push(refused, { repository, sha })
    const error = `${new URL(world.git.url).host} refused the credentials for acme/private. Set GITHUB_TOKEN to a valid token with access to the repository`
    expect(await buildLog(refused, id)).toMatch(new RegExp(`\nerror: ${error}\n$`))
    const build = (await (await fetch(`${refused.url}/builds/${id}`)).json()) as BuildJson
    expect(build).toMatchObject({ state: 'failed', error, error_kind: 'unauthorized' })
    await refused.waitFor(
      /commit status "error": cannot set the commit status of acme\/private@\w{7}: GitHub refused the token: 401 \(Bad credentials\)\. Set GITHUB_TOKEN to a valid token with the scope repo:status/,
    )
    expect(other.github.statuses).toEqual([])

    // After the token is renewed, the missing status is set.
    await refused.kill()
    await using renewed = await other.startServer({ env: { GITHUB_TOKEN } })
    const status = await other.github.waitForStatus((one) => one.sha === sha)
    expect(status).toMatchObject({ state: 'error', description: statusDescription(error) })
    await renewed.kill()
    expect(refused.stdout() + refused.stderr()).not.toContain('ghp_old')
    expect(refused.stdout() + refused.stderr()).not.toContain(GITHUB_TOKEN)
  })
})

describe('the commit cannot be built', () => {
  const short = (sha: string) => sha.slice(0, 7)

  test('as its repository has no Dockerfile any more', async () => {
    const repository = 'acme/plain'
    const git = await world.git.create(repository)
    const first = await git.commit({ Dockerfile: 'FROM scratch\nCOPY . /\n' })
    expect((await pushToEnd(world, server, { repository, sha: first })).build.state).toBe('succeeded')
    const sha = await git.commit({ Dockerfile: null, 'README.md': 'Nothing to build\n' })
    const error = `no Dockerfile in the root of acme/plain@${short(sha)}. Add a file named Dockerfile to the root of the repository and push it`
    await expectFailure(repository, sha, error, 'build_failed')
  })

  test.each<[string, string, Record<string, unknown>, (sha: string) => string]>([
    [
      'a RUN that fails',
      'acme/run',
      { Dockerfile: `${DOCKERFILE}RUN echo out of cheese && exit 3\n` },
      () => '[3/3] RUN echo out of cheese && exit 3 failed with exit code 3',
    ],
    [
      'a RUN that is too long for a status',
      'acme/long',
      { Dockerfile: `${DOCKERFILE}RUN echo ${'very '.repeat(40)}long && false\n` },
      () => `[3/3] RUN echo ${'very '.repeat(13).trim()}… failed with exit code 1`,
    ],
    [
      'a COPY of what is not there',
      'acme/copy',
      { Dockerfile: `${DOCKERFILE}COPY nope.txt /\n` },
      () =>
        '[3/3] COPY nope.txt /: "/nope.txt" is not in the build context. Check the path in the Dockerfile, and that the file is committed and not excluded by .dockerignore',
    ],
    [
      'a COPY of what another stage does not make',
      'acme/stages',
      { Dockerfile: `${DOCKERFILE.replace('\n', ' AS build\n')}FROM scratch\nCOPY --from=build /dist /\n` },
      () =>
        '[stage-1 1/1] COPY --from=build /dist /: "/dist" is not in the stage build. Check the path in the Dockerfile, and that the stage build creates it',
    ],
    [
      'a mistake in the Dockerfile',
      'acme/typo',
      { Dockerfile: `${DOCKERFILE}CPOY . /x\n` },
      () => 'dockerfile parse error line 3: unknown instruction: CPOY',
    ],
    [
      'a submodule on another server',
      'acme/sub',
      {
        Dockerfile: DOCKERFILE,
        lib: { submodule: 'c'.repeat(40) },
        '.gitmodules': '[submodule "lib"]\n\tpath = lib\n\turl = https://git.example.com/acme/lib.git\n',
      },
      (sha) =>
        `the submodule lib of acme/sub@${short(sha)} is at git.example.com/acme/lib, which is not allowed. Allow it with --git.submodules git.example.com/acme/lib, its owner, or its host, or exclude the path in .dockerignore`,
    ],
    [
      'an object that is missing in Git LFS',
      'acme/lfs',
      { Dockerfile: DOCKERFILE, '.gitattributes': '*.bin filter=lfs\n', 'a.bin': POINTER },
      (sha) =>
        `a.bin in acme/lfs@${short(sha)} is missing in Git LFS: ${new URL(world.git.url).host} has no object ${oidIn(POINTER).slice(0, 12)} (Object does not exist). Upload it from a clone that has it: git lfs push --all origin`,
    ],
  ])('%s', async (_, repository, files, error) => {
    const sha = await commit(repository, files)
    await expectFailure(repository, sha, error(sha), 'build_failed')
  })

  test('the page and the API show the lines of the Dockerfile that failed', async () => {
    const repository = 'acme/excerpt'
    const Dockerfile = `${DOCKERFILE}RUN echo one && \\\n  exit 7\nUSER 1\n`
    const sha = await commit(repository, { Dockerfile })
    const { build } = await pushToEnd(world, server, { repository, sha })
    const get = (path: string, accept: string) => fetch(server.url + path, { headers: { accept } })
    const excerpt = {
      file: 'Dockerfile',
      lines: [
        { number: 2, text: 'COPY . /app', failed: false },
        { number: 3, text: 'RUN echo one && \\', failed: true },
        { number: 4, text: '  exit 7', failed: true },
        { number: 5, text: 'USER 1', failed: false },
      ],
      more: 0,
    }
    // The commit's status is set first.
    await expect
      .poll(async () => (await get(`/builds/${build.id}/steps`, 'application/json')).json())
      .toMatchObject({ excerpt })
    const page = await (await get(`/builds/${build.id}`, 'text/html')).text()
    expect(page).toContain('Dockerfile, line 3')
    expect(page).toContain('<mark><span class="muted">  4</span>   exit 7\n</mark>')
  })

  test('a base image that does not exist', async () => {
    const base = `${world.registry.host}/no/such:1`
    const sha = await commit('acme/base', { Dockerfile: `FROM ${base}\n` })
    const error = `base image ${base}: the registry does not have it (HTTP 404). Check the name of the base image, and that Conveyor has access to it (docker login ${world.registry.host})`
    await expectFailure('acme/base', sha, error, 'build_failed')
  })

  test('a repository whose name is not a valid image name', async () => {
    const sha = await commit('acme/_x_', { Dockerfile: DOCKERFILE })
    const error =
      'repository acme/_x_ is not a valid image name: "_x_" must be letters and digits separated by a single . or _, by __, or by dashes. Rename the repository so that it begins and ends with a letter or a digit'
    await expectFailure('acme/_x_', sha, error, 'invalid')
  })

  test('a step that takes too long is stopped, even in the engine', async () => {
    const git = await world.git.create('acme/slow')
    // On a busy machine, two seconds may not be enough to reach the step: then the limit is raised.
    for (const seconds of [2, 8, 30]) {
      await using gate = await startGate()
      await server.kill()
      server = await world.startServer({ flags: ['--timeout', `${seconds}s`, '--build.network', 'host'] })
      const sha = await git.commit({ Dockerfile: `${DOCKERFILE}RUN ${gate.command()}\n` })
      const error = `building acme/slow@${short(sha)} took longer than ${seconds} s. Find the slow step in the log, or raise --timeout (TIMEOUT)`
      const ending = expectFailure('acme/slow', sha, error, 'timeout')
      const step = await Promise.race([gate.arrival(), ending.then(() => null)])
      if (!step) continue
      await step.gone
      const log = await ending
      // The step may have reached its gate before its first line reached the log.
      if (!log.includes('RUN wget')) continue
      expect(log).toMatch(/\n#\d+ \[3\/3\] RUN wget [^\n]*\n\nerror: /)
      return
    }
    throw new Error('the build never came as far as its step')
  })
})
