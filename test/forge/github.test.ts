import type { ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { CommitStatus } from '../../src/lib/forge/forge.ts'
import { type GitHubOptions, github, statusDescription } from '../../src/lib/forge/github/github.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import type { FailureDetails } from '../support/github/protocol.ts'
import { startReceiver } from '../support/network/receiver.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

const TOKEN = 'ghp_0123456789abcdefghijklmnopqrstuvwxyz'
const SHA = '6113728f27ae82c7b1a177c8d03f9e96e0adf246'

const STATUS: CommitStatus = {
  repository: 'octo/app',
  sha: SHA,
  state: 'pending',
  description: 'Image building.',
  targetUrl: 'https://conveyor.example.com/builds/1',
}

let double: GitHubDouble
/** The forge's delays between attempts, in milliseconds. */
let waits: number[]
let lines: string[]

beforeEach(async () => {
  double = await startGitHubDouble({ token: TOKEN })
  waits = []
  lines = []
})

afterEach(async () => {
  const { violations, [Symbol.asyncDispose]: close } = double
  await close()
  expect(violations).toEqual([])
  expect(lines.join('\n')).not.toContain(TOKEN)
})

function forge(options: Partial<GitHubOptions> = {}) {
  return github({
    baseUrl: double.url,
    token: TOKEN,
    sleep: async (ms) => waits.push(ms),
    now: () => Date.now() + waits.reduce((sum, ms) => sum + ms, 0),
    log: (line) => lines.push(line),
    ...options,
  })
}

/** A list that never ends, in 64 KiB at a time. */
function* endless(): Generator<string> {
  yield '["'
  for (;;) yield ' '.repeat(64 << 10)
}

/** The error of a promise, after checking that the token is nowhere in it. */
async function errorOf(promise: Promise<unknown>): Promise<ConveyorError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  )
  expect(inspect(error, { depth: null, showHidden: true })).not.toContain(TOKEN.slice(4))
  if (error instanceof ConveyorError) return error
  throw error
}

describe('fullName', () => {
  test("is GitHub's spelling of a repository; requested once", async () => {
    double.setHead('Octo/App', 'main', SHA)
    expect(await forge().fullName('octo/APP')).toBe('Octo/App')
    double.failNext(1, 500)
    expect(await errorOf(forge().fullName('octo/app'))).toMatchObject({ kind: 'unavailable' })
    expect(waits).toEqual([])
    expect(await errorOf(forge().fullName('octo/none'))).toMatchObject({ kind: 'not_found' })
  })
})

describe('contains', () => {
  const HEAD = 'f'.repeat(40)

  test.each([
    ['ahead', true],
    ['identical', true],
    ['behind', false],
    ['diverged', false],
  ] as const)('a head that is %s of the commit: %s', async (status, contained) => {
    double.serveComparisons(async (...asked) =>
      asked.join(' ') === `octo/app ${SHA} ${HEAD}` ? status : null,
    )
    expect(await forge().contains('octo/app', HEAD, SHA)).toBe(contained)
    expect(double.requests).toHaveLength(1)
  })

  test('is unknown without a token, and for a missing commit', async () => {
    expect(await forge({ token: '' }).contains('octo/app', HEAD, SHA)).toBeNull()
    expect(double.requests).toEqual([])
    expect(await errorOf(forge().contains('octo/app', HEAD, SHA))).toMatchObject({ kind: 'not_found' })
  })
})

describe('file', () => {
  const read = (path = 'Dockerfile', options: Partial<GitHubOptions> = {}) =>
    forge(options).file('octo/app', SHA, path, new AbortController().signal)

  test('the text of a file of a commit; null if there is none', async () => {
    const text = `FROM scratch\n# ${'ü'.repeat(1000)}\n`
    double.serveFiles(async (...file) => (file.join(' ') === `octo/app ${SHA} Dockerfile` ? text : null))
    expect(await read()).toBe(text)
    expect(await errorOf(read('Makefile'))).toMatchObject({ kind: 'not_found' })
  })

  test('is requested once, and not at all without a token, to save the anonymous rate limit', async () => {
    double.serveFiles(async () => 'FROM scratch')
    double.failAlways(502)
    expect(await errorOf(read())).toMatchObject({ kind: 'unavailable' })
    double.failAlways(null)
    expect(double.requests).toHaveLength(1)
    expect(await read('Dockerfile', { token: '' })).toBeNull()
    expect(double.requests).toHaveLength(1)
  })

  test('ends at once when it is no longer needed', async () => {
    double.failAlways('hang')
    const stop = new AbortController()
    const reading = forge().file('octo/app', SHA, 'Dockerfile', stop.signal)
    stop.abort()
    expect(await errorOf(reading)).toMatchObject({ kind: 'cancelled' })
  })
})

describe('setStatus', () => {
  test.each(['pending', 'success', 'failure', 'error'] as const)('%s', async (state) => {
    await forge().setStatus({ ...STATUS, state })
    expect(double.statuses).toEqual([
      {
        repository: 'octo/app',
        sha: SHA,
        state,
        context: 'container/docker',
        description: 'Image building.',
        target_url: 'https://conveyor.example.com/builds/1',
        at: expect.any(Number),
      },
    ])
    expect(double.requests.map(({ headers }) => headers.authorization)).toEqual([`token ${TOKEN}`])
    expect(waits).toEqual([])
  })

  test('a base URL of GitHub Enterprise, with and without a slash at its end', async () => {
    await using enterprise = await startGitHubDouble({ token: TOKEN, basePath: '/api/v3' })
    await forge({ baseUrl: enterprise.url }).setStatus(STATUS)
    await forge({ baseUrl: `${enterprise.url}/` }).setStatus(STATUS)
    expect(enterprise.statuses).toHaveLength(2)
    expect(enterprise.violations).toEqual([])
  })

  test('a long description with line breaks and emoji is truncated to 140 characters', async () => {
    const description = `Step 3\nfailed:\t${'🚢'.repeat(200)}`
    await forge().setStatus({ ...STATUS, description })
    const [set] = double.statuses
    expect(set?.description).toBe(`Step 3 failed: ${'🚢'.repeat(124)}…`)
    expect([...(set?.description ?? '')]).toHaveLength(140)
  })

  test('without a token, nothing is sent, and the log says so once', async () => {
    const mute = forge({ token: '' })
    await mute.setStatus(STATUS)
    await mute.setStatus({ ...STATUS, state: 'success' })
    expect(double.requests).toEqual([])
    expect(lines).toEqual(['GITHUB_TOKEN is not set: commit statuses are disabled'])
  })

  test('500 twice, then success', async () => {
    double.failNext(2, 500)
    await forge().setStatus(STATUS)
    expect(double.statuses).toHaveLength(1)
    expect(waits).toEqual([1_000, 3_000])
    const said = 'cannot set the commit status of octo/app@6113728: GitHub answered 500 (Planned failure)'
    expect(lines).toEqual([`${said}; retrying in 1 s`, `${said}; retrying in 3 s`])
  })

  test('a dropped connection, then success', async () => {
    double.failNext(1, 'reset')
    await forge().setStatus(STATUS)
    expect(double.statuses).toHaveLength(1)
    expect(waits).toEqual([1_000])
  })

  test('always 500, with an HTML page', async () => {
    double.failAlways(502, { body: '<html>Unicorn!</html>' })
    const error = await errorOf(forge().setStatus(STATUS))
    expect(error.message).toBe('cannot set the commit status of octo/app@6113728: GitHub answered 502')
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true, hint: 'Try again later' })
    expect(double.requests).toHaveLength(4)
    expect(waits).toEqual([1_000, 3_000, 9_000])
  })

  test('a repository that was renamed: the redirect is followed, with the token', async () => {
    double.failNext(1, 307, { headers: { location: `${double.url}/repos/octo/renamed/statuses/${SHA}` } })
    await forge().setStatus(STATUS)
    expect(double.statuses).toMatchObject([{ repository: 'octo/renamed', state: 'pending' }])
  })

  test.each<[string, number, FailureDetails, Pick<ConveyorError, 'kind' | 'message' | 'hint'>]>([
    [
      '401',
      401,
      { body: { message: 'Bad credentials' } },
      {
        kind: 'unauthorized',
        message:
          'cannot set the commit status of octo/app@6113728: GitHub refused the token: 401 (Bad credentials)',
        hint: 'Set GITHUB_TOKEN to a valid token with the scope repo:status (classic) or the permission "Commit statuses: write"',
      },
    ],
    [
      '403',
      403,
      { body: { message: 'Resource not accessible by personal access token' } },
      {
        kind: 'unauthorized',
        message:
          'cannot set the commit status of octo/app@6113728: GitHub denied permission: 403 (Resource not accessible by personal access token)',
        hint: 'Grant the token in GITHUB_TOKEN the scope repo:status (classic) or the permission "Commit statuses: write" for this repository',
      },
    ],
    [
      '404',
      404,
      { body: { message: 'Not Found' } },
      {
        kind: 'not_found',
        message:
          'cannot set the commit status of octo/app@6113728: GitHub answered 404 (Not Found), which may also mean that the token has no access to the repository',
        hint: 'Check the name of the repository, and that the token in GITHUB_TOKEN has the scope repo:status (classic) or the permission "Commit statuses: write"',
      },
    ],
    [
      '422 for an unknown commit',
      422,
      { body: { message: `No commit found for SHA: ${SHA}` } },
      {
        kind: 'not_found',
        message: `cannot set the commit status of octo/app@6113728: GitHub answered 422 (No commit found for SHA: ${SHA})`,
        hint: undefined,
      },
    ],
    [
      'a token that comes back in the answer',
      422,
      { body: { message: `No\n${TOKEN}`, errors: ['a word', { message: TOKEN }, { code: 'custom' }, null] } },
      {
        kind: 'invalid',
        message:
          'cannot set the commit status of octo/app@6113728: GitHub answered 422 (No ***: a word: ***)',
        hint: undefined,
      },
    ],
  ])('%s is not retried', async (_, status, details, expected) => {
    double.failAlways(status, details)
    const error = await errorOf(forge().setStatus(STATUS))
    expect({ kind: error.kind, message: error.message, hint: error.hint }).toEqual(expected)
    expect(error.retryable).toBe(false)
    expect(double.requests.filter(({ method }) => method === 'POST')).toHaveLength(1)
  })

  test('an archived repository accepts none, which is logged once', async () => {
    double.archive('octo/app')
    const one = forge()
    await one.setStatus(STATUS)
    await one.setStatus({ ...STATUS, state: 'success' })
    expect(double.statuses).toEqual([])
    expect(lines).toEqual(['octo/app is archived on GitHub and accepts no commit statuses'])
    double.archive('octo/app', false)
    await one.setStatus({ ...STATUS, state: 'success' })
    expect(double.statuses).toMatchObject([{ state: 'success' }])
    expect(waits).toEqual([])
  })

  test('the wrong token', async () => {
    const error = await errorOf(forge({ token: 'ghp_wrong' }).setStatus(STATUS))
    expect(error.kind).toBe('unauthorized')
    expect(error.message).not.toContain('ghp_wrong')
  })

  test('one status more than GitHub accepts for a commit', async () => {
    const full = { ...STATUS, context: 'container/docker', target_url: null, at: 0 }
    double.statuses.push(...Array.from({ length: 1000 }, () => full))
    const error = await errorOf(forge().setStatus(STATUS))
    expect(error.kind).toBe('invalid')
    expect(error.message).toBe(
      'cannot set the commit status of octo/app@6113728: GitHub answered 422 (Validation Failed: This SHA and context has reached the maximum number of statuses.)',
    )
  })

  test('connection refused', async () => {
    const closed = await startGitHubDouble()
    await closed[Symbol.asyncDispose]()
    const error = await errorOf(forge({ baseUrl: closed.url }).setStatus(STATUS))
    expect(error.message).toBe(
      `cannot set the commit status of octo/app@6113728: cannot reach GitHub: connect ECONNREFUSED ${new URL(closed.url).host}`,
    )
    expect(error.hint).toBe(`Check that ${closed.url} can be reached from this machine`)
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(waits).toEqual([1_000, 3_000, 9_000])
  })

  test('no response', async () => {
    double.failAlways('hang')
    const quick = forge({ requestTimeoutMs: 100, retryDelaysMs: [1] })
    const error = await errorOf(quick.setStatus(STATUS))
    expect(error.message).toBe(
      'cannot set the commit status of octo/app@6113728: cannot reach GitHub: no response within 0.1 s',
    )
    expect(error.kind).toBe('unavailable')
    // On a busy machine, a request can be given up before it arrives.
    expect(waits).toEqual([1])
  })

  test('a response that is not from GitHub', async () => {
    double.failAlways(200, { body: '<html>Welcome!</html>' })
    const error = await errorOf(forge().setStatus(STATUS))
    expect(error.message).toBe(
      'cannot set the commit status of octo/app@6113728: the response is not from GitHub',
    )
    expect(error.hint).toMatch(/^Check that the base URL is that of GitHub's API/)
  })

  test.each([
    ['nested very deep', (response: ServerResponse) => response.end('['.repeat(1 << 20))],
    ['without end', (response: ServerResponse) => Readable.from(endless()).pipe(response)],
    ['without end, of a failure', (response: ServerResponse) => Readable.from(endless()).pipe(response), 502],
  ])('a response %s is given up, and the rest not read', async (_, respond, status = 200) => {
    await using receiver = await startReceiver()
    const closed = Promise.withResolvers<void>()
    receiver.answer = (_, response) => {
      response.once('close', closed.resolve)
      response.writeHead(status, { 'content-type': 'application/json' })
      respond(response)
    }
    const turn = longestTurn()
    const error = await errorOf(forge({ baseUrl: receiver.url, retryDelaysMs: [] }).setStatus(STATUS))
    expect(error.message).toBe(
      `cannot set the commit status of octo/app@6113728: ${status === 200 ? 'the response is not from GitHub' : 'GitHub answered 502'}`,
    )
    expect(error.retryable).toBe(true)
    expect(turn.ms()).toBeLessThan(250)
    // Nothing more is read of it.
    await closed.promise
  })

  test.each(['repository', 'sha'] as const)('an impossible %s is never sent', async (field) => {
    const error = await errorOf(forge().setStatus({ ...STATUS, [field]: '../..' }))
    expect(error.kind).toBe('invalid')
    expect(double.requests).toEqual([])
  })
})

describe('rate limits', () => {
  const limit = (message: string, headers: Record<string, string> = {}) => ({ headers, body: { message } })
  const secondary = 'You have exceeded a secondary rate limit. Please wait a few minutes.'

  test.each<[string, number, FailureDetails, number]>([
    ['429 with Retry-After', 429, limit('Slow down', { 'retry-after': '7' }), 7_000],
    ['403 with Retry-After', 403, limit(secondary, { 'retry-after': '60' }), 60_000],
    ['403 that says so', 403, limit(secondary), 60_000],
    ['a Retry-After shorter than our own wait', 429, limit('Slow down', { 'retry-after': '0' }), 1_000],
    ['503 with Retry-After', 503, limit('Maintenance', { 'retry-after': '5' }), 5_000],
  ])('%s is waited for', async (_, status, details, wait) => {
    double.failNext(1, status, details)
    await forge().setStatus(STATUS)
    expect(waits).toEqual([wait])
    expect(double.statuses).toHaveLength(1)
  })

  test('waits for the reset of an exceeded limit', async () => {
    const reset = Math.ceil(Date.now() / 1000) + 20
    const headers = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(reset) }
    double.failNext(1, 403, limit('API rate limit exceeded', headers))
    await forge().setStatus(STATUS)
    expect(waits).toHaveLength(1)
    expect(waits[0]).toBeGreaterThan(10_000)
    expect(waits[0]).toBeLessThanOrEqual(22_000)
  })

  test('a limit of more than a minute is an immediate error', async () => {
    double.failAlways(403, limit(secondary, { 'retry-after': '61' }))
    const error = await errorOf(forge().setStatus(STATUS))
    expect(error.message).toBe(
      "cannot set the commit status of octo/app@6113728: GitHub's rate limit is exceeded; it resets in 61 s",
    )
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true, hint: undefined })
    expect(waits).toEqual([])
  })

  test('all waits together take at most a minute', async () => {
    double.failAlways(429, limit('Slow down', { 'retry-after': '25' }))
    await errorOf(forge().setStatus(STATUS))
    expect(waits).toEqual([25_000, 25_000])
  })

  test('a token is recommended if there is none', async () => {
    const headers = { 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': '9999999999' }
    double.failAlways(403, limit('API rate limit exceeded', headers))
    const error = await errorOf(forge({ token: '' }).branchHead('octo/app', 'main'))
    expect(error.hint).toBe('Set GITHUB_TOKEN: with a token, the limit is much higher')
  })
})

describe('the signal', () => {
  const message = 'cannot set the commit status of octo/app@6113728: cancelled'

  test('aborted before', async () => {
    const error = await errorOf(forge().setStatus(STATUS, AbortSignal.abort()))
    expect(error).toMatchObject({ kind: 'cancelled', message, retryable: false })
    expect(double.requests).toEqual([])
  })

  test('aborted during a request', async () => {
    double.failAlways('hang')
    const abort = new AbortController()
    const setting = errorOf(forge().setStatus(STATUS, abort.signal))
    await expect.poll(() => double.requests).toHaveLength(1)
    abort.abort()
    expect(await setting).toMatchObject({ kind: 'cancelled', message })
  })

  test('aborted during a wait', async () => {
    double.failAlways(500)
    const abort = new AbortController()
    const waiting = github({
      baseUrl: double.url,
      token: TOKEN,
      retryDelaysMs: [59_000],
      log: () => setImmediate(() => abort.abort()),
    })
    const error = await errorOf(waiting.setStatus(STATUS, abort.signal))
    expect(error).toMatchObject({ kind: 'cancelled', message })
    expect(double.requests).toHaveLength(1)
  })
})

describe('branchHead and defaultBranch', () => {
  test.each(['main', 'feature/x', 'fix/#12-ünï', '100%25', 'a+b', '日本/語'])(
    'the head of %s',
    async (branch) => {
      double.setHead('octo/app', branch, SHA)
      expect(await forge().branchHead('octo/app', branch)).toBe(SHA)
      expect(await forge().branchHead('Octo/App', branch)).toBe(SHA)
    },
  )

  test('public repositories need no token', async () => {
    double.setHead('octo/app', 'trunk', SHA)
    expect(await forge({ token: '' }).branchHead('octo/app', 'trunk')).toBe(SHA)
    expect(await forge({ token: '' }).defaultBranch('octo/app')).toBe('trunk')
    expect(double.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined])
  })

  test('the default branch', async () => {
    double.setHead('octo/app', 'main', SHA)
    double.setDefaultBranch('octo/app', 'release/2.x')
    expect(await forge().defaultBranch('octo/app')).toBe('release/2.x')
  })

  test('a branch that does not exist', async () => {
    double.setHead('octo/app', 'main', SHA)
    const error = await errorOf(forge().branchHead('octo/app', 'feature/y'))
    expect(error.kind).toBe('not_found')
    expect(error.message).toBe('octo/app has no branch "feature/y"')
    expect(error.hint).toBe('Check the name of the branch; the default branch is "main"')
  })

  test('a repository without commits', async () => {
    double.setDefaultBranch('octo/app', 'main')
    const error = await errorOf(forge().branchHead('octo/app', 'main'))
    expect(error).toMatchObject({ kind: 'not_found', message: 'octo/app has no commits yet' })
  })

  test('a repository that does not exist, or that the token cannot access', async () => {
    const head = await errorOf(forge().branchHead('octo/secret', 'main'))
    expect(head.kind).toBe('not_found')
    expect(head.message).toBe(
      'cannot look up the branch "main" of octo/secret: GitHub answered 404 (Not Found), which may also mean that the token has no access to the repository',
    )
    expect(head.hint).toBe(
      'Check the name of the repository, and that the token in GITHUB_TOKEN has the scope repo (classic) or the permission "Contents: read"',
    )
    const main = await errorOf(forge().defaultBranch('octo/secret'))
    expect(main.message).toMatch(/^cannot look up the default branch of octo\/secret: GitHub answered 404/)
  })

  test('a truncated response is requested again', async () => {
    double.setHead('octo/app', 'main', SHA)
    double.failNext(1, 200, { headers: { 'content-type': 'application/json' }, body: '{"ref": "refs/he' })
    expect(await forge().branchHead('octo/app', 'main')).toBe(SHA)
    expect(waits).toEqual([1_000])
  })

  test('401, 403 and 500 name the repository and the branch', async () => {
    double.failNext(1, 401, { body: { message: 'Bad credentials' } })
    expect(await errorOf(forge().branchHead('octo/app', 'main'))).toMatchObject({
      kind: 'unauthorized',
      message:
        'cannot look up the branch "main" of octo/app: GitHub refused the token: 401 (Bad credentials)',
    })
    double.failNext(1, 403, { body: { message: 'Forbidden' } })
    expect(await errorOf(forge().branchHead('octo/app', 'main'))).toMatchObject({
      kind: 'unauthorized',
      message: 'cannot look up the branch "main" of octo/app: GitHub denied permission: 403 (Forbidden)',
    })
    double.failNext(4, 500)
    expect(await errorOf(forge().branchHead('octo/app', 'main'))).toMatchObject({
      kind: 'unavailable',
      message: 'cannot look up the branch "main" of octo/app: GitHub answered 500 (Planned failure)',
    })
  })

  test.each(['', '../main', 'a b', 'x.lock'])('the branch name %j is never sent', async (branch) => {
    expect(await errorOf(forge().branchHead('octo/app', branch))).toMatchObject({ kind: 'invalid' })
    expect(double.requests).toEqual([])
  })
})

describe('options', () => {
  test.each([`${TOKEN}\n`, `${TOKEN} `, `${TOKEN}é`])(
    'the token %j is refused without being shown',
    async (token) => {
      const error = await errorOf((async () => forge({ token }))())
      expect(error).toMatchObject({
        kind: 'invalid',
        message: 'the GitHub token contains a space, a line break or a special character',
      })
    },
  )

  test.each(['github.com', 'ftp://github.com', `https://x:${TOKEN}@github.com`, 'https://github.com?x=1'])(
    'the base URL %s is refused',
    async (baseUrl) => {
      const error = await errorOf((async () => forge({ baseUrl }))())
      expect(error.message).toBe("the base URL of GitHub's API is not a plain http or https URL")
    },
  )
})

describe('statusDescription', () => {
  test.each([
    ['', ''],
    ['  Image built\r\n in 3 s\n', 'Image built in 3 s'],
    ['\u001b[31mred\u0000', '[31mred'],
    ['x'.repeat(140), 'x'.repeat(140)],
    ['x'.repeat(141), `${'x'.repeat(139)}…`],
    [`${'x'.repeat(138)} yz`, `${'x'.repeat(138)}…`],
    ['🚢'.repeat(140), '🚢'.repeat(140)],
    ['half \ud83d', 'half \ufffd'],
    ['a'.repeat(1_000_000), `${'a'.repeat(139)}…`],
  ])('%#', (text, expected) => {
    expect(statusDescription(text)).toBe(expected)
  })
})
