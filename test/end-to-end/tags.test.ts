import { createHash } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildJson } from '../../src/lib/api/build.ts'
import type { GitRepository } from '../support/git/repository.ts'
import { sendPush } from '../support/github/push.ts'
import { basicEnv, type ConveyorServer, start } from '../support/processes.ts'
import { buildLog, type Push, startWorld, type World } from '../support/world.ts'

/** Which commits docker tags point at after pushes that arrive late, twice or by mistake. All components are real. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY . /app\n'
const SECOND = 1_800_000_000

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld()
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

let files = 0
/** A commit with unique content. */
const commit = (git: GitRepository, options: Parameters<GitRepository['commit']>[1] = {}) =>
  git.commit({ Dockerfile: DOCKERFILE, text: String(++files) }, options)

/** Sends a push and waits for the end of its build; resolves to its log. */
async function pushed(push: Push, to = server): Promise<string> {
  return buildLog(to, await world.push(to, push))
}

async function ordered(order: object, to = server): Promise<BuildJson & { log: string }> {
  const answer = await fetch(`${to.url}/builds`, {
    method: 'POST',
    body: JSON.stringify(order),
    headers: { accept: 'application/json' },
  })
  const build = (await answer.json()) as BuildJson
  return { ...build, log: await buildLog(to, build.id) }
}

/** The tags that point at the image of a commit. */
async function tagsOf(repository: string, sha: string, tags: string[]): Promise<string[]> {
  const image = repository.toLowerCase()
  const digest = await world.digest(image, sha)
  expect(digest).not.toBeNull()
  const at = await Promise.all(tags.map(async (tag) => (await world.digest(image, tag)) === digest))
  return tags.filter((_, i) => at[i])
}

const hashed = (name: string) => `${name}--${createHash('sha256').update(name).digest('hex').slice(0, 8)}`

describe('a late push moves nothing back', () => {
  test.each([
    ['in another second', 1],
    ['in the same second', 0],
  ])('that was made %s', async (name, seconds) => {
    const repository = `acme/late-${seconds}`
    const git = await world.git.create(repository)
    const [one, two] = [await commit(git), await commit(git)]
    const first = { repository, sha: one, pushedAt: SECOND, delivery: `first-${name}`.replaceAll(' ', '-') }
    const second = { repository, sha: two, before: one, pushedAt: SECOND + seconds }
    await pushed(second)
    const log = await pushed(first)
    expect(log).toContain('tag main is not moved: it already points at a newer push')
    expect(log).toContain('tag latest is not moved: it already points at a newer push')
    expect(await tagsOf(repository, two, ['main', 'latest'])).toEqual(['main', 'latest'])

    // Replays of either push, from one webhook or from two, return the existing builds.
    const ids = async (push: Push) => [await world.push(server, push), await world.push(server, push)]
    const { delivery: _, ...replay } = first
    expect(new Set(await ids(first)).size).toBe(1)
    // Within one second a branch may have been moved there and back: then it is the git server that decides against it.
    for (const push of [replay, second]) {
      const answered = await ids(push)
      if (seconds > 0) expect(new Set(answered).size).toBe(1)
    }
    await server.kill('SIGKILL')
    server = await world.startServer()
    await pushed(replay)
    expect(await tagsOf(repository, two, ['main', 'latest'])).toEqual(['main', 'latest'])
  })

  test('but a force push back to it does, and a replay of the push before it does not', async () => {
    const repository = 'acme/force'
    const git = await world.git.create(repository)
    const [one, two] = [await commit(git), await commit(git)]
    const forth = { repository, sha: two, before: one, pushedAt: SECOND }
    await pushed({ repository, sha: one, pushedAt: SECOND })
    await pushed(forth)
    await git.git('update-ref', 'refs/heads/main', one)
    await pushed({ repository, sha: one, before: two, pushedAt: SECOND })
    expect(await tagsOf(repository, one, ['main', 'latest'])).toEqual(['main', 'latest'])
    await pushed(forth)
    expect(await tagsOf(repository, one, ['main', 'latest'])).toEqual(['main', 'latest'])
    // The branch is pushed there again, still within the same second.
    await git.git('update-ref', 'refs/heads/main', two)
    await pushed(forth)
    expect(await tagsOf(repository, two, ['main', 'latest'])).toEqual(['main', 'latest'])
  })

  test('of another branch, which gets its own tag', async () => {
    const repository = 'acme/branches'
    const git = await world.git.create(repository)
    const old = await commit(git, { branch: 'dev' })
    const main = await commit(git)
    await pushed({ repository, sha: main, pushedAt: SECOND + 9 })
    await pushed({ repository, sha: old, branch: 'dev', pushedAt: SECOND })
    expect(await tagsOf(repository, old, ['dev', 'latest'])).toEqual(['dev'])
    expect(await tagsOf(repository, main, ['main', 'latest'])).toEqual(['main', 'latest'])
  })
})

describe('a docker tag belongs to the ref that had it first', () => {
  test('a git tag with the name of a branch, and a branch with the name of a release', async () => {
    const repository = 'acme/owners'
    const git = await world.git.create(repository)
    const [old, head] = [await commit(git), await commit(git)]
    await pushed({ repository, sha: old, tag: 'v1.2', pushedAt: SECOND })
    await pushed({ repository, sha: head, pushedAt: SECOND + 1 })
    const log = await pushed({ repository, sha: old, tag: 'main', pushedAt: SECOND + 2 })
    expect(log).toContain(`tag main already belongs to another ref; the git tag main gets ${hashed('main')}`)
    expect(await tagsOf(repository, head, ['main', 'latest'])).toEqual(['main', 'latest'])
    expect(await tagsOf(repository, old, [hashed('main'), 'v1.2'])).toHaveLength(2)

    const stray = await commit(git, { branch: 'v1.2' })
    await pushed({ repository, sha: stray, branch: 'v1.2', pushedAt: SECOND + 3 })
    expect(await tagsOf(repository, old, ['v1.2'])).toEqual(['v1.2'])
    expect(await tagsOf(repository, stray, [hashed('v1.2')])).toHaveLength(1)
    expect(await tagsOf(repository, head, ['main', 'latest'])).toEqual(['main', 'latest'])
  })

  test('two branches that would share one, and refs named latest', async () => {
    const repository = 'acme/siblings'
    const git = await world.git.create(repository)
    const shas: string[] = []
    const refs = [{ branch: 'feature/x' }, { branch: 'feature-x' }, { branch: 'latest' }, { tag: 'latest' }]
    for (const [i, ref] of refs.entries()) {
      const sha = await commit(git)
      shas.push(sha)
      await pushed({ repository, sha, ...ref, pushedAt: SECOND + i })
    }
    const [slash, dash, branch, tag] = shas as [string, string, string, string]
    expect(await tagsOf(repository, slash, ['feature-x'])).toHaveLength(1)
    expect(await tagsOf(repository, dash, [hashed('feature-x')])).toHaveLength(1)
    expect(await tagsOf(repository, branch, [hashed('latest'), 'latest'])).toHaveLength(2)
    const whole = createHash('sha256').update('refs/tags/latest').digest('hex').slice(0, 8)
    expect(await tagsOf(repository, tag, [`latest--${whole}`, 'latest'])).toEqual([`latest--${whole}`])
  })
})

test('a commit of a merge queue gets only its sha tag, and the others when it is merged', async () => {
  const repository = 'acme/queue'
  const git = await world.git.create(repository)
  const base = await commit(git)
  await pushed({ repository, sha: base, pushedAt: SECOND })
  const branch = `gh-readonly-queue/main/pr-7-${base}`
  const sha = await commit(git, { branch, from: 'main' })
  const log = await pushed({ repository, sha, branch, pushedAt: SECOND + 1 })
  expect(log).toContain(`tags ${sha}\n`)
  expect(log).toContain(`branch ${branch} belongs to a merge queue: only the sha tag is set`)
  expect(await world.github.waitForStatus((s) => s.sha === sha && s.state === 'success')).toBeTruthy()
  expect(await tagsOf(repository, base, ['main', 'latest'])).toEqual(['main', 'latest'])
  const { tags } = (await (await fetch(`${world.registry.url}/v2/acme/queue/tags/list`)).json()) as {
    tags: string[]
  }
  expect(tags.toSorted()).toEqual([base, sha, 'latest', 'main'].toSorted())
  // A request through the API does not move it either.
  const again = await ordered({ repository, sha })
  expect(again.withheld?.map(({ tag }) => tag)).toEqual(['latest'])

  await git.git('update-ref', 'refs/heads/main', sha)
  const merged = await pushed({ repository, sha, before: base, pushedAt: SECOND + 2 })
  expect(merged).toContain('nothing to build: this commit was built before')
  expect(await tagsOf(repository, sha, ['main', 'latest'])).toEqual(['main', 'latest'])
})

describe('an API request', () => {
  test('moves the tags of a branch only to commits that it contains', async () => {
    const repository = 'acme/asked'
    const git = await world.git.create(repository)
    const [inside, head] = [await commit(git), await commit(git)]
    const stray = await commit(git, { branch: 'topic', from: inside })
    await pushed({ repository, sha: head, before: inside, pushedAt: SECOND })

    const refused = await ordered({ repository, sha: stray, branch: 'main' })
    const reason = `the branch main of ${repository} does not contain ${stray.slice(0, 7)}`
    expect(refused).toMatchObject({
      branch: null,
      withheld: [
        { tag: 'main', reason },
        { tag: 'latest', reason },
      ],
    })
    expect(refused.log).toContain(`tag main is not moved: ${reason}\n`)
    expect(refused.log).toContain(`tags ${stray}\n`)
    expect(server.stderr() + server.stdout()).toContain(`does not move tag latest: ${reason}`)

    const alone = await ordered({ repository, sha: stray })
    expect(alone.withheld).toEqual([
      {
        tag: 'latest',
        reason: `no push announced it, and the default branch of ${repository} does not contain ${stray.slice(0, 7)}`,
      },
    ])
    const missing = await ordered({ repository, sha: head, branch: 'nope' })
    expect(missing.withheld?.[0]).toEqual({ tag: 'nope', reason: `${repository} has no branch nope` })
    // It is on the branch, but older than the current image.
    const older = await ordered({ repository, sha: inside, branch: 'main' })
    expect(older.withheld).toBeUndefined()
    expect(older.log).toContain('tag main is not moved')
    expect(await tagsOf(repository, head, ['main', 'latest'])).toEqual(['main', 'latest'])

    const good = await ordered({ repository, sha: stray, branch: 'topic' })
    expect(good).toMatchObject({ branch: 'topic' })
    expect(await tagsOf(repository, stray, ['topic', 'latest'])).toEqual(['topic', 'latest'])
  })

  test('creates missing tags, and moves latest to a commit of the default branch', async () => {
    const repository = 'acme/first'
    const git = await world.git.create(repository)
    const [inside, head] = [await commit(git), await commit(git)]
    await ordered({ repository, sha: inside, branch: 'main' })
    expect(await tagsOf(repository, inside, ['main', 'latest'])).toEqual(['main', 'latest'])
    await ordered({ repository, sha: head })
    expect(await tagsOf(repository, head, ['main', 'latest'])).toEqual(['latest'])
    await ordered({ repository, sha: head, branch: 'main' })
    expect(await tagsOf(repository, head, ['main', 'latest'])).toEqual(['main', 'latest'])
  })

  test('explains this in the CLI, too', async () => {
    const repository = 'acme/said'
    const git = await world.git.create(repository)
    await commit(git)
    const stray = await commit(git, { branch: 'topic', from: 'main' })
    await git.git('update-ref', '-d', 'refs/heads/topic')
    const command = await start(
      process.execPath,
      ['bin/run.js', 'build', `${repository}:${stray}`, '--url', server.url],
      { env: { ...basicEnv(), HOME: world.dataDir }, stdio: 'pipe' },
    )
    expect(await command.exited).toMatchObject({ code: 0 })
    expect(command.stderr()).toContain('conveyor: tag latest is not moved: no push announced it, and ')
  })
})

test('an unsigned push builds the head of its branch, whatever it says', async () => {
  const unsigned = await world.startServer({ env: { GITHUB_SECRET: '', DATA_DIR: `${world.dataDir}/open` } })
  const repository = 'acme/unsigned'
  const git = await world.git.create(repository)
  const head = await commit(git)
  const stray = await commit(git, { branch: 'topic', from: 'main' })
  world.github.setHead(repository, 'main', head)
  const send = async (sha: string, pushedAt: number) => {
    const ref = 'refs/heads/main'
    const answer = await sendPush({ url: unsigned.url, repository, ref, sha, pushedAt })
    return buildLog(unsigned, (JSON.parse(answer.body) as { id: string }).id)
  }
  expect(await send(stray, SECOND * 2)).toContain(`building ${repository}@${head}`)
  expect(await world.digest(repository, stray)).toBeNull()
  expect(await tagsOf(repository, head, ['main', 'latest'])).toEqual(['main', 'latest'])
  await unsigned.kill()
})

describe('a repository has one spelling', () => {
  const dockerfile = `${DOCKERFILE}RUN --mount=type=secret,id=npm cat /run/secrets/npm > /npm\n`

  test.each([
    ['that GitHub tells', false],
    ['that a push told', true],
  ])('%s: secrets, settings, mirror and image are found under any', async (_name, push) => {
    const repository = push ? 'Mixed/Pushed' : 'Mixed/App'
    const asked = repository.toLowerCase()
    const secrets = join(world.dataDir, 'secrets', repository)
    await mkdir(secrets, { recursive: true })
    await writeFile(join(secrets, 'npm'), 'the-npm-token')
    const git = await world.git.create(repository)
    const sha = await git.commit({ Dockerfile: dockerfile, text: String(++files) })
    if (push) await pushed({ repository, sha: await git.commit({ Dockerfile: dockerfile }) })
    else world.github.setHead(repository, 'main', sha)

    const build = await ordered({ repository: asked, sha, cache: false })
    expect(build.log).toContain(`building ${repository}@${sha}`)
    expect(build.log).not.toContain('error:')
    const log = await pushed({ repository, sha, branch: 'other' })
    expect(log).toContain('nothing to build: this commit was built before')
    expect(await tagsOf(asked, sha, ['other'])).toEqual(['other'])
    const found = await fetch(`${server.url}/builds/${asked.toUpperCase()}@${sha}`)
    expect(await found.json()).toMatchObject({ repository })
  })
})
