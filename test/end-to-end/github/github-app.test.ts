import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ConveyorServer } from '../../support/processes.ts'
import { runConveyor } from '../../support/processes.ts'
import { buildLog, startWorld, type World } from '../../support/world.ts'

/** The real server as a GitHub App: everything that it does at GitHub is done with tokens of one repository each. */

const DOCKERFILE = 'FROM conveyor-test/busybox:1\nCOPY greeting /\n'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld({ app: true })
  const { app, github } = world
  if (app) github.apps.install(app, 'acme')
  server = await world.startServer()
})
afterAll(() => world[Symbol.asyncDispose]())

/** A private repository with a commit. */
async function repositoryOf(name: string) {
  const git = await world.git.create(name)
  const sha = await git.commit({ Dockerfile: DOCKERFILE, greeting: `${name}\n` })
  world.github.setHead(name, 'main', sha)
  world.github.hide(name)
  return sha
}

/** Resolves when a build has ended. */
async function ended(id: string): Promise<{ state: string; error: string | null }> {
  for (;;) {
    const build = (await (await fetch(`${server.url}/builds/${id}`)).json()) as {
      state: string
      error: string | null
    }
    if (build.state !== 'pending' && build.state !== 'building') return build
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test('private repositories are fetched and reported with tokens of their own, which nothing shows', async () => {
  const [shop, stock] = await Promise.all([repositoryOf('acme/shop'), repositoryOf('acme/stock')])
  const ids = await Promise.all([
    world.push(server, { repository: 'acme/shop', sha: shop }),
    world.push(server, { repository: 'acme/stock', sha: stock }),
  ])
  for (const id of ids) expect(await ended(id)).toMatchObject({ state: 'succeeded' })
  const { tokens } = world.github.apps
  expect(tokens.map(({ repositories }) => repositories).sort()).toEqual([['acme/shop'], ['acme/stock']])

  const shown = [
    server.stdout(),
    server.stderr(),
    ...(await Promise.all(ids.map((id) => buildLog(server, id)))),
  ]
  for (const id of ids) shown.push(await (await fetch(`${server.url}/builds/${id}`)).text())
  shown.push(...(await textsIn(world.dataDir)))
  for (const { token } of tokens) {
    expect(token).toHaveLength(520)
    const basic = Buffer.from(`x-access-token:${token}`).toString('base64')
    for (const text of shown) {
      expect(text).not.toContain(token.slice(0, 80))
      expect(text).not.toContain(basic.slice(40, 100))
    }
  }
})

test('somebody signs in, sees the builds that GitHub lets them see, and leaves no token behind', async () => {
  const { app, github } = world
  if (!app) throw new Error('the world is no App')
  github.apps.install(app, 'globex')
  const mine = await repositoryOf('globex/mine')
  const hidden = await repositoryOf('globex/hidden')
  const login = { GITHUB_CLIENT_ID: app.clientId, GITHUB_CLIENT_SECRET: app.clientSecret }
  await using other = await world.startServer({
    env: { ...login, DATA_DIR: join(world.dataDir, 'other'), BASIC_AUTH: 'ops:secret' },
  })
  const url = other.url.replace('127.0.0.1', 'localhost')
  const [id] = await Promise.all([
    world.push(other, { repository: 'globex/mine', sha: mine }),
    world.push(other, { repository: 'globex/hidden', sha: hidden }),
  ])
  github.users.callbacks.add(`${url}/login/callback`)
  github.users.inBrowser = github.users.create('octavia', { 'globex/mine': 'write' })

  const cookies = new Map<string, string>()
  let at: string | null = `${url}/login/github?to=${encodeURIComponent(`/builds/${id}`)}`
  let answer: Response | undefined
  while (at !== null) {
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ')
    answer = await fetch(at, { headers: { accept: 'text/html', cookie }, redirect: 'manual' })
    for (const set of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? []
      cookies.set(name, value)
    }
    const location: string | null = answer.headers.get('location')
    at = location === null ? null : new URL(location, at).href
  }
  expect(answer?.status).toBe(200)
  expect(await answer?.text()).toContain('<span>@octavia</span>')
  const headers = { accept: 'application/json', cookie: `conveyor=${cookies.get('conveyor')}` }
  const seen = (await (await fetch(`${url}/builds`, { headers })).json()) as {
    builds: { repository: string }[]
  }
  expect(seen.builds.map(({ repository }) => repository)).toEqual(['globex/mine'])

  const [token = ''] = github.users.tokens.keys()
  const files = await textsIn(world.dataDir)
  expect(files.length).toBeGreaterThan(10)
  for (const secret of [token, app.clientSecret, cookies.get('conveyor') ?? '']) {
    expect(secret).not.toBe('')
    for (const text of [other.stdout(), other.stderr(), ...files]) expect(text).not.toContain(secret)
  }
})

test('a repository without the App fails its build with what to do', async () => {
  const sha = await repositoryOf('elsewhere/app')
  const id = await world.push(server, { repository: 'elsewhere/app', sha })
  expect(await ended(id)).toMatchObject({
    state: 'failed',
    error: expect.stringMatching(
      /refused the credentials for elsewhere\/app\. Check that the GitHub App is installed on the repository, with the permission "Contents: read"/,
    ),
  })
})

test('conveyor doctor says as which App, and which permissions are missing', async () => {
  const doctor = async (env: Record<string, string> = {}) => {
    const { stdout } = await runConveyor(['doctor', '--json', '--response-timeout', '1m'], {
      env: { ...world.env, ...env },
    })
    const parts = JSON.parse(stdout) as {
      part: string
      level: string
      found: string
      advice: string | null
    }[]
    return parts.find(({ part }) => part === 'github')
  }
  expect(await doctor()).toMatchObject({
    level: 'ok',
    found: `${world.github.url} as the App Conveyor, installed on acme, globex`,
  })
  const narrow = await world.github.apps.create({
    name: 'Narrow',
    permissions: { metadata: 'read', contents: 'read', statuses: 'read' },
  })
  expect(await doctor(narrow.env)).toMatchObject({
    level: 'warning',
    found: expect.stringContaining('it lacks Commit statuses: write, Checks: write, Pull requests: read'),
  })
  expect(await doctor({ ...narrow.env, GITHUB_APP_ID: String(world.app?.id) })).toMatchObject({
    level: 'broken',
    advice: expect.stringContaining('GITHUB_PRIVATE_KEY'),
  })
})

/** What all files below a folder contain. Git's locks come and go meanwhile. */
async function textsIn(dir: string): Promise<string[]> {
  const entries = (await unlessGone(readdir(dir, { withFileTypes: true }))) ?? []
  const texts = await Promise.all(
    entries.map(async (entry) => {
      const path = join(dir, entry.name)
      if (entry.isDirectory()) return textsIn(path)
      const text = entry.isFile() ? await unlessGone(readFile(path, 'latin1')) : null
      return text === null ? [] : [text]
    }),
  )
  return texts.flat()
}

function unlessGone<T>(reading: Promise<T>): Promise<T | null> {
  return reading.catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
}
