import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/lib/config/config.ts'
import { SetupStates } from '../../src/lib/server/setup/state.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import { sendWebhook, webhookExamples } from '../support/github/push.ts'
import { type ConveyorServer, runConveyor, startConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

const LOGIN = 'ada:a-password'
const AUTHORIZATION = `Basic ${Buffer.from(LOGIN).toString('base64')}`

let resources: AsyncDisposableStack
let github: GitHubDouble
let dataDir: string
beforeEach(async () => {
  resources = new AsyncDisposableStack()
  dataDir = resources.use(await tempDir('conveyor-setup-')).path
  // Only the URL of an Enterprise server tells where its website is.
  github = resources.use(await startGitHubDouble({ basePath: '/api/v3' }))
})
afterEach(async () => {
  const { violations } = github
  await resources.disposeAsync()
  expect(violations).toEqual([])
})

async function start(env: NodeJS.ProcessEnv = {}): Promise<ConveyorServer> {
  const server = await startConveyor(['server'], {
    env: {
      ...{
        PORT: '0',
        HOST: '127.0.0.1',
        DATA_DIR: dataDir,
        REGISTRY: 'registry.test',
        GITHUB_URL: github.url,
      },
      ...{ BASIC_AUTH: LOGIN, DOCKER_HOST: 'unix:///nowhere', WARM: '0', ...env },
    },
  })
  resources.defer(async () => void (await server.kill()))
  return server
}

/** What a browser gets. */
async function visit(url: string, authorization = AUTHORIZATION) {
  const answer = await fetch(url, { headers: { accept: 'text/html', authorization }, redirect: 'manual' })
  return { status: answer.status, page: await answer.text(), headers: answer.headers }
}

const unescaped = (text: string) => text.replaceAll('&quot;', '"').replaceAll('&amp;', '&')

/** Where the form of the page leads to, and what it posts there. */
function formOf(page: string): { action: URL; manifest: Record<string, unknown> } {
  const action = /<form action="([^"]+)" method="post">/.exec(page)?.[1] ?? ''
  const manifest = /name="manifest" value="([^"]*)"/.exec(page)?.[1] ?? ''
  return {
    action: new URL(unescaped(action)),
    manifest: JSON.parse(unescaped(manifest)) as Record<string, unknown>,
  }
}

/** The event that GitHub sends first. */
async function ping(server: ConveyorServer, secret: string): Promise<number> {
  const [payload] = (await webhookExamples()).find(({ name }) => name === 'ping')?.examples ?? []
  return (await sendWebhook({ url: `${server.url}/webhooks/github`, secret, event: 'ping', payload })).status
}

describe('the page that makes a GitHub App', () => {
  test('has GitHub make one, keeps it where only its owner reads it, and the next start uses it', async () => {
    const server = await start()
    const { page, headers } = await visit(`${server.url}/setup?organization=acme`)
    const origin = new URL(github.url).origin
    expect(headers.get('content-security-policy')).toContain(`form-action 'self' ${origin};`)
    const { action, manifest } = formOf(page)
    expect(`${action.origin}${action.pathname}`).toBe(`${origin}/organizations/acme/settings/apps/new`)
    const base = server.url.replace('127.0.0.1', 'localhost')
    expect(manifest).toMatchObject({
      ...{ url: base, public: false, redirect_url: `${base}/setup/callback` },
      hook_attributes: { url: `${base}/webhooks/github`, active: true },
      default_permissions: { contents: 'read', statuses: 'write', checks: 'write', pull_requests: 'read' },
    })

    const { code, app } = await github.manifests.post(manifest)
    const state = action.searchParams.get('state') ?? ''
    const done = await visit(`${server.url}/setup/callback?code=${code}&state=${state}`)
    expect(done.status).toBe(200)
    expect(done.page).toContain(`/installations/new`)
    const file = join(dataDir, 'github-app.json')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    const kept = JSON.parse(await readFile(file, 'utf8')) as Record<string, string>
    expect(kept).toEqual({
      ...{ GITHUB_APP_ID: `${app.id}`, GITHUB_PRIVATE_KEY: app.privateKey, GITHUB_SECRET: app.webhookSecret },
      ...{ GITHUB_CLIENT_ID: app.clientId, GITHUB_CLIENT_SECRET: app.clientSecret },
    })
    for (const secret of [app.privateKey.split('\n')[1] ?? '', app.clientSecret, app.webhookSecret ?? '']) {
      expect(done.page + server.stderr() + server.stdout()).not.toContain(secret)
    }

    // Nobody makes a second one over it, nor with the same answer.
    expect((await visit(`${server.url}/setup`)).page).toContain('There is a GitHub App already')
    expect((await visit(`${server.url}/setup/callback?code=${code}&state=${state}`)).status).toBe(400)
    await server.kill()
    const next = await start()
    expect(await ping(next, app.webhookSecret ?? '')).toBe(200)
    expect(await ping(next, 'another')).toBe(401)
    const config = parseConfig({ 'data-dir': dataDir, registry: 'registry.test', 'github.url': github.url })
    expect(config.github).toMatchObject({ app: { id: `${app.id}` }, checks: 'on', secret: app.webhookSecret })
    const token = parseConfig({ 'data-dir': dataDir, registry: 'registry.test', 'github.token': 'ghp_x' })
    expect(token.github).toMatchObject({ app: null, checks: 'off', secret: null })
  })

  test('gives the App the secret that the server has, which signs other webhooks already', async () => {
    const server = await start({ GITHUB_SECRET: 'that of all webhooks' })
    const { action, manifest } = formOf((await visit(`${server.url}/setup`)).page)
    expect(action.pathname).toBe('/settings/apps/new')
    const { code, app } = await github.manifests.post(manifest)
    await visit(`${server.url}/setup/callback?code=${code}&state=${action.searchParams.get('state')}`)
    expect(app.webhookSecret).toBe('that of all webhooks')
  })

  test('is for those with the scope admin, and nothing is kept without its answer', async () => {
    const server = await start()
    expect((await visit(`${server.url}/setup`, '')).status).toBe(401)
    const create = await fetch(`${server.url}/tokens`, {
      method: 'POST',
      headers: { authorization: AUTHORIZATION, 'content-type': 'application/json' },
      body: JSON.stringify({ name: 'ci', scope: 'build', repositories: [], expires_in: null }),
    })
    const { token } = (await create.json()) as { token: string }
    for (const path of ['/setup', '/setup/callback?code=x&state=y']) {
      expect((await visit(server.url + path, `Bearer ${token}`)).status).toBe(403)
    }
    const { action } = formOf((await visit(`${server.url}/setup`)).page)
    const state = action.searchParams.get('state') ?? ''
    const callback = (query: string) => visit(`${server.url}/setup/callback?${query}`)
    expect((await callback('code=x')).status).toBe(400)
    expect((await callback(`code=x&state=${state.slice(0, -1)}_`)).status).toBe(400)
    expect((await callback(`code=../../app&state=${state}`)).status).toBe(400)
    const again = formOf((await visit(`${server.url}/setup`)).page).action.searchParams.get('state')
    // GitHub knows no such code.
    const unknown = await callback(`code=0123456789abcdef&state=${again}`)
    expect(unknown.status).toBe(404)
    expect(unknown.page).toContain('its code works once, and for an hour')
    expect(unknown.page).not.toContain('GITHUB_TOKEN')
    expect((await visit(`${server.url}/setup`)).page).toContain('Make the App on GitHub')
  })
})

test('the command sets up a webhook with the options of the server, or names the page', async () => {
  const secret = { GITHUB_SECRET: 'the secret', GITHUB_TOKEN: 'ghp_a-token' }
  const server = await start(secret)
  const env = {
    ...secret,
    GITHUB_URL: github.url,
    DATA_DIR: dataDir,
    REGISTRY: 'registry.test',
    BASE_URL: server.url,
  }
  const setup = (...args: string[]) => runConveyor(['setup', ...args], { env })
  const created = await setup('acme/web')
  expect(created).toMatchObject({ code: 0, stderr: '' })
  expect(created.stdout).toMatch(
    /^created {2}webhook of acme\/web to http:.*\/webhooks\/github\nok {7}ping: the server answered in \d\.\d\d s\n$/,
  )
  expect((await setup('acme/web')).stdout).toMatch(/^ok {7}webhook of acme\/web to .*\nok {7}ping/)
  expect(await setup('--no-browser')).toMatchObject({ code: 0, stdout: `${server.url}/setup\n` })
  github.failNext(1, 401)
  expect(await setup('acme')).toMatchObject({ code: 2, stderr: expect.stringContaining('refused the token') })
})

describe('the file of an App has people sign in', () => {
  const made = { GITHUB_CLIENT_ID: 'Iv23liAbCdEf', GITHUB_CLIENT_SECRET: '0123456789abcdef' }
  const read = (values: Record<string, string>) => {
    const { github, warnings } = parseConfig({ 'data-dir': dataDir, registry: 'registry.test', ...values })
    return { login: github.login, warnings }
  }
  beforeEach(() => writeFile(join(dataDir, 'github-app.json'), JSON.stringify(made)))

  test('where that is possible', () => {
    expect(read({ url: 'https://conveyor.example' })).toEqual({
      login: { clientId: 'Iv23liAbCdEf', clientSecret: '0123456789abcdef' },
      warnings: [],
    })
  })

  test.each([
    [
      { url: 'http://conveyor.example' },
      '--url (BASE_URL) must begin with https:// where people sign in with GitHub',
    ],
    [
      { auth: 'none' },
      '--github.client_id (GITHUB_CLIENT_ID) cannot be combined with --auth none, which lets in everyone',
    ],
  ])('and the server does without with %o, which only variables do not allow', (values, problem) => {
    expect(read(values)).toEqual({ login: null, warnings: [`people cannot sign in with GitHub: ${problem}`] })
    const given = { 'github.client_id': 'Iv23liAbCdEf', 'github.client_secret': '0123456789abcdef' }
    expect(() => read({ ...values, ...given })).toThrow(problem)
    expect(() => read({ ...values, 'github.client_id': 'Iv23liAbCdEf' })).toThrow(problem)
  })
})

test('a file of an App that is no longer readable stops the start, and says which file it is', async () => {
  await writeFile(join(dataDir, 'github-app.json'), '{"GITHUB_APP_ID": ')
  expect(() => parseConfig({ 'data-dir': dataDir, registry: 'registry.test' })).toThrow(
    /the GitHub App in ".*github-app\.json" is not JSON: restore or remove the file/,
  )
})

test('an answer counts for whoever asked, within the hour, and once', () => {
  let now = 1_000_000
  const states = new SetupStates(Buffer.alloc(32, 1), () => now)
  const state = states.create('ada')
  const use =
    (value: unknown, user = 'ada') =>
    () =>
      states.use(value, user)
  for (const other of ['', 'x', `${state}x`, state.replace(/^\d/, '9'), undefined])
    expect(use(other)).toThrow()
  expect(use(state, 'bob')).toThrow(/not the answer to a form of this page/)
  expect(() => new SetupStates(Buffer.alloc(32, 2), () => now).use(state, 'ada')).toThrow()
  expect(use(state)).not.toThrow()
  expect(use(state)).toThrow()
  const late = states.create('ada')
  now += 3_600_001
  expect(use(late)).toThrow()
})
