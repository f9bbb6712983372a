import { afterEach, beforeEach, expect, test } from 'vitest'
import { parseConfig } from '../../src/lib/config/config.ts'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import { githubHooks } from '../../src/lib/forge/github/hooks.ts'
import { githubApi } from '../../src/lib/forge/github/requests.ts'
import { personalTokens } from '../../src/lib/forge/github/tokens.ts'
import { setUpWebhook } from '../../src/lib/setup/webhook.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import { startTestServer, type TestServer } from '../support/test-server.ts'

const TOKEN = 'ghp_a-token'
const SECRET = 'the secret of webhooks'
const EVENTS = ['push', 'pull_request', 'merge_group', 'issue_comment']

let resources: AsyncDisposableStack
let double: GitHubDouble
let server: TestServer
beforeEach(async () => {
  resources = new AsyncDisposableStack()
  double = resources.use(await startGitHubDouble({ token: TOKEN }))
  server = resources.use(await startTestServer({ githubSecret: SECRET }))
})
afterEach(async () => {
  const { violations } = double
  await resources.disposeAsync()
  expect(violations).toEqual([])
})

/** Runs the command's work, as with these options. @returns the lines of its report, and the result */
async function setUp(target: string, values: Record<string, string> = {}) {
  const config = parseConfig({
    ...{ 'github.url': double.url, 'git.url': 'https://git.example/{repository}.git', 'github.token': TOKEN },
    ...{ url: server.url, 'github.secret': SECRET, registry: 'registry.test', ...values },
  })
  const api = githubApi({ baseUrl: double.url, tokens: personalTokens(TOKEN), retryDelaysMs: [] })
  const lines: string[] = []
  const io = {
    report: (line: { state: string; text: string }) => void lines.push(`${line.state}: ${line.text}`),
  }
  const hooks = githubHooks(api, { pollMs: 20 })
  const ok = await setUpWebhook(config, target, { ...io, log: () => {} }, hooks)
  return { ok, lines }
}

const PONG = expect.stringMatching(/^ok: ping: the server answered in \d\.\d\d s$/)

test.each([
  ['a repository', 'acme/web'],
  ['an organization', 'acme'],
])('the webhook of %s is created, and left alone from then on', async (_, target) => {
  const url = `${server.url}/webhooks/github`
  expect(await setUp(target)).toEqual({ ok: true, lines: [`created: webhook of ${target} to ${url}`, PONG] })
  expect(double.hooks.hooks).toEqual([
    {
      ...{ id: 700, place: target, active: true, events: EVENTS },
      config: { url, content_type: 'json', secret: SECRET, insecure_ssl: '0' },
    },
  ])
  const writes = () =>
    double.requests.filter(({ method, path }) => method !== 'GET' && !path.endsWith('/pings'))
  expect(writes()).toHaveLength(1)
  expect(await setUp(target)).toEqual({ ok: true, lines: [`ok: webhook of ${target} to ${url}`, PONG] })
  expect(writes()).toHaveLength(1)
})

test('everything that is wrong with a webhook is repaired, and named', async () => {
  const url = server.url.replace(/\d+$/, '1')
  double.hooks.add('acme/web', { url: 'https://ci.example/hook', secret: 'another' })
  const hook = double.hooks.add(
    'acme/web',
    { url, content_type: 'form' },
    { active: false, events: ['push', 'star'] },
  )
  const { ok, lines } = await setUp('Acme/Web')
  expect(ok).toBe(true)
  expect(lines[0]).toBe(
    `updated: webhook of Acme/Web to ${server.url}/webhooks/github: URL, content type, secret, events (pull_request, merge_group, issue_comment), active`,
  )
  expect(hook).toMatchObject({
    ...{ active: true, events: ['push', 'star', 'pull_request', 'merge_group', 'issue_comment'] },
    config: { url: `${server.url}/webhooks/github`, content_type: 'json', secret: SECRET },
  })
  // That of another service is none of our business.
  expect(double.hooks.hooks[0]?.config).toEqual({ url: 'https://ci.example/hook', secret: 'another' })
})

test('a secret that differs shows in the ping, and is replaced', async () => {
  const config = { url: `${server.url}/`, content_type: 'json', secret: 'an old one', insecure_ssl: '0' }
  const hook = double.hooks.add('acme/web', config, { events: EVENTS })
  const { ok, lines } = await setUp('acme/web')
  expect(lines).toEqual([
    `ok: webhook of acme/web to ${server.url}/`,
    `updated: webhook of acme/web to ${server.url}/: secret`,
    PONG,
  ])
  expect(ok).toBe(true)
  expect(hook.config.secret).toBe(SECRET)
})

test('what cannot be repaired is said: a server with another secret, one that does not answer, a second webhook', async () => {
  const wrong = await setUp('acme/web', { 'github.secret': 'not the server’s' })
  expect(wrong.ok).toBe(false)
  expect(wrong.lines.at(-1)).toMatch(/^broken: ping: the server refused the signature/)
  double.hooks.add('acme/web', { url: `${server.url}/old`, content_type: 'json', secret: SECRET })
  const twice = await setUp('acme/web')
  expect(twice).toMatchObject({ ok: false })
  expect(twice.lines).toContain(
    `broken: another webhook leads to this server, so every delivery arrives twice: delete ${server.url}/old`,
  )
  await server.stop()
  const silent = await setUp('acme/other')
  expect(silent.ok).toBe(false)
  expect(silent.lines.at(-1)).toMatch(/^broken: ping: GitHub got no answer/)
})

test('a target or settings that are missing are named, and a token that may not is refused', async () => {
  const fails = async (target: string, values: Record<string, string>) =>
    setUp(target, values).then(
      () => 'no error',
      (error: ConveyorError) => `${error.kind}: ${error.message}`,
    )
  expect(await fails('a b', {})).toBe('invalid: "a b" is neither OWNER/NAME nor an organization')
  expect(await fails('acme', { 'github.secret': '' })).toMatch(/^invalid: --github.secret .* is not set/)
  expect(await fails('acme', { url: '' })).toMatch(/^invalid: --url .* is not set/)
  expect(await fails('acme', { 'github.token': '' })).toMatch(/^invalid: --github.token .* is not set/)
  double.failNext(1, 404)
  expect(await fails('acme', {})).toMatch(/^not_found: cannot list the webhooks of acme/)
})
