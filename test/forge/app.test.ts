import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import type { CommitStatus } from '../../src/lib/forge/forge.ts'
import { type AppOptions, appTokens } from '../../src/lib/forge/github/app.ts'
import { github } from '../../src/lib/forge/github/github.ts'
import type { TestApp } from '../support/github/apps/apps.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'

const SHA = '6113728f27ae82c7b1a177c8d03f9e96e0adf246'
const MINUTE = 60_000

let double: GitHubDouble
let app: TestApp
/** Added to the clock of the tokens. */
let later: number
let lines: string[]

beforeEach(async () => {
  double = await startGitHubDouble({ token: 'ghp_unused' })
  app = await double.apps.create()
  double.setHead('acme/shop', 'main', SHA)
  double.setHead('acme/secret', 'main', SHA)
  double.hide('acme/secret')
  later = 0
  lines = []
})

afterEach(async () => {
  const { violations, apps, [Symbol.asyncDispose]: close } = double
  await close()
  expect(violations).toEqual([])
  for (const { token } of apps.tokens) expect(lines.join('\n')).not.toContain(token)
})

function options(more: Partial<AppOptions> = {}): AppOptions {
  const { id, privateKey } = app
  const log = (line: string) => void lines.push(line)
  return {
    baseUrl: double.url,
    id: String(id),
    privateKey,
    installationId: null,
    retryDelaysMs: [],
    log,
    ...more,
  }
}

function tokensOf(more: Partial<AppOptions> = {}) {
  return appTokens(options(more), () => performance.now() + later)
}

function status(repository: string): CommitStatus {
  return {
    repository,
    sha: SHA,
    state: 'success',
    description: 'Image built.',
    targetUrl: 'https://c.example/1',
  }
}

function requested(path: RegExp) {
  return double.requests.filter((request) => path.test(request.path))
}

async function errorOf(promise: Promise<unknown>): Promise<ConveyorError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (thrown: unknown) => thrown as ConveyorError,
  )
  const all = inspect(error, { depth: null, showHidden: true })
  for (const { token } of double.apps.tokens) expect(all).not.toContain(token.slice(0, 60))
  expect(all).not.toContain(app.privateKey.split('\n')[3])
  return error as ConveyorError
}

describe('tokens of a GitHub App', () => {
  test('are for one repository and for what is needed there, in any spelling of its name', async () => {
    double.apps.install(app, 'acme', { permissions: { ...app.permissions, issues: 'write', checks: 'read' } })
    const tokens = tokensOf()
    const token = await tokens.token('acme/shop')
    expect(await tokens.token('Acme/Shop')).toBe(token)
    expect(double.apps.tokens).toMatchObject([
      {
        token,
        repositories: ['acme/shop'],
        permissions: {
          metadata: 'read',
          contents: 'read',
          statuses: 'write',
          checks: 'read',
          pull_requests: 'read',
        },
      },
    ])
    expect(await tokens.token('acme/secret')).not.toBe(token)
  })

  test('are requested once, however many ask; who no longer waits does not end that', async () => {
    double.apps.install(app, 'acme')
    const tokens = tokensOf()
    const abort = new AbortController()
    const given = Promise.all([tokens.token('acme/shop'), tokens.token('acme/shop')])
    const aborted = expect(tokens.token('acme/shop', abort.signal)).rejects.toThrow('stop')
    abort.abort(new Error('stop'))
    await aborted
    const [one, other] = await given
    expect(one).toBe(other)
    expect(requested(/access_tokens/)).toHaveLength(1)
  })

  test('are renewed five minutes before their end, by the clock of GitHub', async () => {
    double.apps.install(app, 'acme')
    double.apps.skewMs = -20 * MINUTE
    const tokens = tokensOf()
    const first = await tokens.token('acme/shop')
    later = 54 * MINUTE
    expect(await tokens.token('acme/shop')).toBe(first)
    later = 56 * MINUTE
    expect(await tokens.token('acme/shop')).not.toBe(first)
  })

  test('an old token is used until its end if GitHub gives no new one', async () => {
    double.apps.install(app, 'acme')
    const tokens = tokensOf()
    const first = await tokens.token('acme/shop')
    double.failAlways(503)
    later = 57 * MINUTE
    expect(await tokens.token('acme/shop')).toBe(first)
    later = 61 * MINUTE
    expect(await errorOf(tokens.token('acme/shop'))).toMatchObject({ kind: 'unavailable' })
  })

  test.each([7, -7])('a clock that is %d minutes off does not matter', async (minutes) => {
    double.apps.install(app, 'acme')
    double.apps.skewMs = minutes * MINUTE
    expect(await tokensOf().token('acme/shop')).toMatch(/^ghs_/)
  })

  test('there is none where the App is not installed, until it is', async () => {
    const tokens = tokensOf()
    expect(await tokens.token('acme/shop')).toBeNull()
    double.apps.install(app, 'acme', { repositories: ['acme/shop'] })
    expect(await tokens.token('acme/shop')).toBeNull()
    later = MINUTE
    expect(await tokens.token('acme/shop')).toMatch(/^ghs_/)
    expect(await tokens.token('acme/secret')).toBeNull()
  })

  test('only the installation that is configured is used', async () => {
    const { id } = double.apps.install(app, 'acme', { repositories: ['acme/shop'] })
    const tokens = tokensOf({ installationId: id })
    expect(await tokens.token('acme/shop')).toMatch(/^ghs_/)
    expect(await tokens.token('acme/secret')).toBeNull()
    expect(requested(/\/repos\//)).toEqual([])
  })

  test('the client ID does as well as the ID', async () => {
    double.apps.install(app, 'acme')
    expect(await tokensOf({ id: app.clientId }).token('acme/shop')).toMatch(/^ghs_/)
  })

  test('a wrong key is named as such', async () => {
    const other = await double.apps.create()
    const error = await errorOf(tokensOf({ privateKey: other.privateKey }).token('acme/shop'))
    expect(error).toMatchObject({
      kind: 'unauthorized',
      message:
        'cannot find the installation of the GitHub App on acme/shop: GitHub refused the token: 401 (A JSON web token could not be decoded)',
      hint: 'Check --github.app_id (GITHUB_APP_ID) and --github.private_key (GITHUB_PRIVATE_KEY)',
    })
  })

  test('a suspended installation is an error', async () => {
    double.apps.install(app, 'acme', { isSuspended: true })
    expect(await errorOf(tokensOf().token('acme/shop'))).toMatchObject({
      kind: 'unauthorized',
      message: expect.stringContaining('403 (This installation has been suspended)'),
    })
  })
})

describe('GitHub with an App', () => {
  function forge(tokens = tokensOf()) {
    return github({ baseUrl: double.url, tokens, log: (line) => lines.push(line) })
  }

  test('sets statuses and reads private repositories with the token of the repository', async () => {
    double.apps.install(app, 'acme')
    const forgeOfApp = forge()
    await forgeOfApp.setStatus(status('acme/shop'))
    expect(await forgeOfApp.branchHead('acme/secret', 'main')).toBe(SHA)
    expect(double.statuses).toMatchObject([{ repository: 'acme/shop', state: 'success' }])
    const [shop, secret] = double.apps.tokens
    expect(requested(/statuses/)[0]?.headers.authorization).toBe(`token ${shop?.token}`)
    expect(requested(/secret\/git/)[0]?.headers.authorization).toBe(`token ${secret?.token}`)
  })

  test('a token that GitHub no longer accepts is replaced at once', async () => {
    double.apps.install(app, 'acme')
    const forgeOfApp = forge()
    await forgeOfApp.setStatus(status('acme/shop'))
    double.apps.expireTokens()
    await forgeOfApp.setStatus(status('acme/shop'))
    expect(double.statuses).toHaveLength(2)
    expect(double.apps.tokens).toHaveLength(2)
  })

  test('the token of one repository is of no use for another', async () => {
    double.apps.install(app, 'acme')
    const token = await tokensOf().token('acme/shop')
    const foreign = github({
      baseUrl: double.url,
      tokens: { kind: 'app', token: async () => token, refused: () => {} },
      retryDelaysMs: [],
    })
    expect(await errorOf(foreign.branchHead('acme/secret', 'main'))).toMatchObject({ kind: 'not_found' })
    double.setHead('acme/other', 'main', SHA)
    expect(await errorOf(foreign.setStatus(status('acme/other')))).toMatchObject({
      kind: 'unauthorized',
      hint: 'Grant the GitHub App the permission "Commit statuses: write", and accept that where it is installed',
    })
  })

  test('says where the App has to be installed', async () => {
    expect(await errorOf(forge().setStatus(status('acme/shop')))).toMatchObject({
      kind: 'unauthorized',
      message:
        'cannot set the commit status of acme/shop@6113728: GitHub requires a token: 401 (Requires authentication)',
      hint: 'Install the GitHub App on the repository',
    })
  })
})

describe('rate limits of an account', () => {
  test('after a secondary limit, nothing is sent before its end, and then a write a second', async () => {
    double.apps.install(app, 'acme')
    const tokens = tokensOf()
    await tokens.token('acme/shop')
    const forge = github({ baseUrl: double.url, tokens })
    double.limit({ secondary: { writes: 1, retryAfter: 2 } })
    const before = Date.now()
    await Promise.all([1, 2, 3].map(() => forge.setStatus(status('acme/shop'))))
    const at = double.statuses.map((set) => set.at).sort((a, b) => a - b)
    expect(at).toHaveLength(3)
    expect((at[1] ?? 0) - before).toBeGreaterThanOrEqual(2000)
    expect((at[2] ?? 0) - (at[1] ?? 0)).toBeGreaterThanOrEqual(990)
  })

  test('an exhausted quota fails at once what would have to wait too long, without a request', async () => {
    double.apps.install(app, 'acme')
    const tokens = tokensOf()
    await tokens.token('acme/shop')
    const forge = github({ baseUrl: double.url, tokens })
    double.limit({ primary: { requests: 1, resetAt: Math.ceil(Date.now() / 1000) + 600 } })
    await forge.setStatus(status('acme/shop'))
    const message = /GitHub's rate limit is exceeded; it resets in (59\d|60\d)(\.\d)? s/
    expect((await errorOf(forge.setStatus(status('acme/shop')))).message).toMatch(message)
    const sent = double.requests.length
    const error = await errorOf(forge.branchHead('acme/shop', 'main'))
    expect(error).toMatchObject({ kind: 'unavailable', message: expect.stringMatching(message) })
    expect(double.requests).toHaveLength(sent)
  })
})
