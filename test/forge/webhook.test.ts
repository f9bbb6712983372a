import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { GitHubSignature } from '../../src/lib/forge/github/webhook/signature.ts'
import { parseWebhook, webhookBody } from '../../src/lib/forge/github/webhook/webhook.ts'
import { type PushFacts, pushPayload, webhookExamples } from '../support/github/push.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

type Json = Record<string, unknown>

const DELIVERY = '72d3162e-cc78-11e3-81ab-4c9367dc0958'
const SHA = '6113728f27ae82c7b1a177c8d03f9e96e0adf246'
const OTHER_SHA = 'f95f852bd8fca8fcc58a9a2d6c842781e32a215e'

const FACTS: PushFacts = { repository: 'octo/app', ref: 'refs/heads/main', sha: SHA }

function errorOf(run: () => unknown): ConveyorError {
  try {
    run()
  } catch (error) {
    if (error instanceof ConveyorError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

async function failureOf(work: Promise<unknown>): Promise<ConveyorError> {
  const [result] = await Promise.allSettled([work])
  return errorOf(() => {
    if (result.status === 'rejected') throw result.reason
  })
}

const NOTHING = '0'.repeat(40)

describe('parseWebhook on the published examples', () => {
  test('every event that is not handled is ignored, with a reason that names it', async () => {
    const handled = ['push', 'check_run', 'check_suite', 'pull_request', 'merge_group', 'issue_comment']
    const others = (await webhookExamples()).filter(({ name }) => !handled.includes(name))
    expect(others.length).toBeGreaterThan(50)
    for (const { name, examples } of others) {
      for (const payload of examples) {
        const reason = name === 'ping' ? 'ping: pong' : `event "${name}": it builds nothing`
        expect(parseWebhook(name, DELIVERY, payload)).toEqual({ kind: 'ignored', reason })
      }
    }
  })

  test('every push requests a build of its head commit, or is a deletion', async () => {
    const pushes = (await webhookExamples()).find(({ name }) => name === 'push')?.examples ?? []
    const titles = ['Adding a .gitignore file', 'Initial commit', 'Initial commit']
    const read = pushes.map((payload) => parseWebhook('push', DELIVERY, payload))
    const build = (ref: { kind: string; name: string }) => ({
      kind: 'build',
      message: titles[0],
      request: {
        repository: 'Codertocat/Hello-World',
        sha: SHA,
        ref,
        defaultBranch: 'master',
        ...(ref.kind === 'branch' && { tree: '31b122c26a97cf9af023e9ddab94a82c6e77b0ea' }),
        commit: { title: titles.shift(), author: 'Codertocat', login: 'Codertocat' },
        cache: true,
        push: { before: NOTHING, after: SHA, pushedAt: expect.any(Number) },
        source: { kind: 'webhook', delivery: DELIVERY },
      },
    })
    const deletion = {
      kind: 'ignored',
      reason: '"refs/tags/simple-tag" was deleted: nothing to build',
    }
    const branch = { kind: 'branch', name: 'master' }
    expect(read).toEqual([
      build({ kind: 'tag', name: 'simple-tag' }),
      deletion,
      deletion,
      deletion,
      build(branch),
      build(branch),
      deletion,
    ])
  })
})

describe('parseWebhook on pushes', () => {
  const parse = async (facts: Partial<PushFacts>) =>
    parseWebhook('push', DELIVERY, await pushPayload({ ...FACTS, ...facts }))

  test('a push has its time, and the commits before and after', async () => {
    const facts = { before: OTHER_SHA, pushedAt: 1_700_000_000 }
    expect(await parse(facts)).toMatchObject({ request: { push: { ...facts, after: SHA } } })
    const payload = (await pushPayload({ ...FACTS, ...facts })) as { repository: object }
    const at = (pushed_at: unknown) =>
      parseWebhook('push', DELIVERY, { ...payload, repository: { ...payload.repository, pushed_at } })
    expect(at('2023-11-14T22:13:20Z')).toMatchObject({ request: { push: { pushedAt: 1_700_000_000 } } })
    expect(at(null)).toMatchObject({ request: { push: { pushedAt: null } } })
    for (const wrong of [-1, 1.5, {}, true, 'never', 1e300]) {
      expect(() => at(wrong)).toThrow('push payload: repository.pushed_at is')
    }
    const { before: _, ...incomplete } = payload as { before?: string }
    expect(parseWebhook('push', DELIVERY, incomplete)).not.toHaveProperty('request.push')
    expect(() => parseWebhook('push', DELIVERY, { ...payload, before: '--x' })).toThrow('before: sha "--x"')
  })

  test('a branch with slashes keeps its whole name, and the default branch is known', async () => {
    expect(await parse({ ref: 'refs/heads/feature/ünï#1', defaultBranch: 'trunk' })).toEqual({
      kind: 'build',
      message: 'Change something',
      request: {
        repository: 'octo/app',
        sha: SHA,
        ref: { kind: 'branch', name: 'feature/ünï#1' },
        defaultBranch: 'trunk',
        tree: expect.stringMatching(/^[0-9a-f]{40}$/),
        commit: { title: 'Change something', author: 'Codertocat', login: 'Codertocat' },
        cache: true,
        push: { before: NOTHING, after: SHA, pushedAt: 1557933657 },
        source: { kind: 'webhook', delivery: DELIVERY },
      },
    })
  })

  test('what the commit says is one short line each, whatever the payload has', async () => {
    const push = await pushPayload(FACTS)
    const commit = (head: object, rest: object = {}) => {
      const head_commit = { ...(push.head_commit as object), ...head }
      const parsed = parseWebhook('push', DELIVERY, { ...push, ...rest, head_commit })
      return parsed.kind === 'build' ? parsed.request.commit : undefined
    }
    expect(commit({ message: '\nFix it\r\n\nBecause', author: { name: 'Ada', username: 'ada' } })).toEqual({
      title: 'Fix it',
      author: 'Ada',
      login: 'ada',
    })
    const sender = { login: 'pusher[bot]' }
    expect(commit({ message: '', author: { name: 'A\u001b[2J\u202eB' } }, { sender })).toEqual({
      title: '',
      author: 'A [2J B',
      login: 'pusher[bot]',
    })
    for (const none of [undefined, null, 7, 'x', [], { name: 7, username: {} }])
      expect(commit({ message: 'x', author: none }, { sender: none })).toEqual({
        title: 'x',
        author: '',
        login: null,
      })
    const long = commit({ message: '🚀'.repeat(150_000) })
    expect(long?.title).toBe('🚀'.repeat(100))
    expect(commit({ message: `${'a'.repeat(199)}🚀` })?.title).toBe('a'.repeat(199))
  })

  test('the tree is read from pushes to branches, if it is present and an id', async () => {
    const push = await pushPayload({ ...FACTS, tree: OTHER_SHA })
    const parsed = (tree_id: unknown, ref = push.ref) =>
      parseWebhook('push', DELIVERY, {
        ...push,
        ref,
        head_commit: { ...(push.head_commit as object), tree_id },
      })
    expect(parsed(OTHER_SHA)).toMatchObject({ request: { tree: OTHER_SHA } })
    for (const none of [parsed(undefined), parsed(null), parsed(OTHER_SHA, 'refs/tags/v1')]) {
      expect(none).not.toHaveProperty('request.tree')
    }
    expect(() => parsed('main')).toThrow('head_commit.tree_id')
    expect(() => parsed(7)).toThrow('head_commit.tree_id')
  })

  test('an annotated tag builds the commit, not the tag object', async () => {
    const pushed = await parse({ ref: 'refs/tags/v1.0', tagObject: OTHER_SHA })
    expect(pushed).toMatchObject({ request: { sha: SHA, ref: { kind: 'tag', name: 'v1.0' } } })
  })

  test.each([
    ['Fix it [docker nocache]', false],
    ['Fix it\n\nLong story [docker nocache] and more', false],
    ['Fix it [docker cache]', true],
    ['docker nocache', true],
    ['', true],
  ])('the message %j sets cache to %s', async (message, cache) => {
    expect(await parse({ message })).toMatchObject({ kind: 'build', request: { cache } })
  })

  test.each<[string, Partial<PushFacts>, string]>([
    ['a fork', { fork: true }, 'the repository is a fork: forks are never built'],
    ['a deletion', { deleted: true }, '"refs/heads/main" was deleted: nothing to build'],
    ['notes', { ref: 'refs/notes/commits' }, '"refs/notes/commits" is neither a branch nor a tag'],
    ['a pull request', { ref: 'refs/pull/1/head' }, '"refs/pull/1/head" is neither a branch nor a tag'],
  ])('%s is ignored', async (_, facts, reason) => {
    expect(await parse(facts)).toEqual({ kind: 'ignored', reason })
  })

  test('a push without a head commit is ignored', async () => {
    const payload = { ...(await pushPayload({ ...FACTS, ref: 'refs/tags/blob' })), head_commit: null }
    const reason = '"refs/tags/blob" has no head commit: nothing to build'
    expect(parseWebhook('push', DELIVERY, payload)).toEqual({ kind: 'ignored', reason })
  })

  test('unknown events are ignored, and their names truncated', () => {
    const ignored = parseWebhook('x'.repeat(500), DELIVERY, null)
    expect(ignored).toEqual({
      kind: 'ignored',
      reason: `event "${'x'.repeat(100)}...": it builds nothing`,
    })
  })
})

describe('parseWebhook on malformed pushes', () => {
  const long = 'z'.repeat(300)

  test.each<[string, unknown, string]>([
    ['ref', undefined, 'push payload: ref is missing'],
    ['ref', 7, 'push payload: ref is 7, not a string'],
    ['ref', 'refs/heads/a..b', 'push payload: ref: "a..b" is not a valid branch or tag name'],
    ['ref', 'refs/heads/-x y', 'push payload: ref: "-x y" is not a valid branch or tag name'],
    ['deleted', undefined, 'push payload: deleted is missing'],
    ['deleted', 'no', 'push payload: deleted is "no", not true or false'],
    ['repository', undefined, 'push payload: repository is missing'],
    ['repository', null, 'push payload: repository is null, not an object'],
    ['repository', [], 'push payload: repository is an array, not an object'],
    ['repository.fork', undefined, 'push payload: repository.fork is missing'],
    ['repository.fork', {}, 'push payload: repository.fork is an object, not true or false'],
    ['repository.full_name', undefined, 'push payload: repository.full_name is missing'],
    [
      'repository.full_name',
      '../etc/passwd',
      'push payload: repository.full_name: repository "../etc/passwd" is not of the form owner/name',
    ],
    ['repository.default_branch', null, 'push payload: repository.default_branch is null, not a string'],
    [
      'repository.default_branch',
      'a b',
      'push payload: repository.default_branch: "a b" is not a valid branch or tag name',
    ],
    ['head_commit', undefined, 'push payload: head_commit is missing'],
    ['head_commit', 'x', 'push payload: head_commit is "x", not an object'],
    ['head_commit.id', undefined, 'push payload: head_commit.id is missing'],
    ['head_commit.id', 12, 'push payload: head_commit.id is 12, not a string'],
    ['head_commit.id', 'main', 'push payload: head_commit.id: sha "main" is not a full commit id'],
    ['head_commit.message', null, 'push payload: head_commit.message is null, not a string'],
    ['head_commit', long, `push payload: head_commit is "${'z'.repeat(100)}...", not an object`],
  ])('%s = %j', async (path, value, message) => {
    const payload = structuredClone(await pushPayload(FACTS))
    const keys = path.split('.')
    const last = keys.pop() ?? ''
    const parent = keys.reduce<Json>((object, key) => object[key] as Json, payload)
    if (value === undefined) delete parent[last]
    else parent[last] = value
    const error = errorOf(() => parseWebhook('push', DELIVERY, payload))
    expect(error.message).toBe(message)
    expect(error).toMatchObject({ kind: 'invalid', retryable: false })
  })

  test.each([
    [undefined, 'push payload is missing'],
    [null, 'push payload is null, not an object'],
    ['{}', 'push payload is "{}", not an object'],
    [[], 'push payload is an array, not an object'],
  ])('the payload %j', (payload, message) => {
    expect(errorOf(() => parseWebhook('push', DELIVERY, payload)).message).toBe(message)
  })

  test('fields of a prototype do not count', async () => {
    const { ref: _, ...rest } = await pushPayload(FACTS)
    const smuggled = JSON.stringify(rest).replace('{', '{"__proto__":{"ref":"refs/heads/main"},')
    const payload = await webhookBody('push', 'application/json', smuggled)
    expect(errorOf(() => parseWebhook('push', DELIVERY, payload)).message).toBe(
      'push payload: ref is missing',
    )
    const inherited = Object.assign(Object.create({ ref: 'refs/heads/main' }), rest)
    expect(errorOf(() => parseWebhook('push', DELIVERY, inherited)).message).toBe(
      'push payload: ref is missing',
    )
  })

  test.each(['', 'a b', 'a\nb', 'x'.repeat(201)])('the delivery id %j is refused', async (delivery) => {
    const payload = await pushPayload(FACTS)
    const error = errorOf(() => parseWebhook('push', delivery, payload))
    expect(error.message).toMatch(/^the header X-GitHub-Delivery is ".*", not a delivery id$/)
  })
})

/** Passes the body in two pieces, as a large one arrives. */
function isSigned(secret: string, body: string | Uint8Array, signature: string | undefined): boolean {
  const bytes = Buffer.from(body)
  const hash = new GitHubSignature(secret)
  hash.update(bytes.subarray(0, 3))
  hash.update(bytes.subarray(3))
  return hash.matches(signature)
}

describe('GitHubSignature', () => {
  const secret = "It's a Secret to Everybody"
  const sign = (body: string | Uint8Array, key = secret) =>
    `sha256=${createHmac('sha256', key).update(body).digest('hex')}`

  test("GitHub's documented test vector", async () => {
    // https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    const signature = 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17'
    expect(isSigned(secret, 'Hello, World!', signature)).toBe(true)
    expect(isSigned(secret, Buffer.from('Hello, World!'), signature)).toBe(true)
    expect(isSigned(secret, 'Hello, World?', signature)).toBe(false)
  })

  test('bytes are verified as received, even inside a larger buffer', async () => {
    const text = '{"message": "Grüße 🚀\u0000"}'
    const bytes = new TextEncoder().encode(text)
    const larger = new Uint8Array(bytes.length + 20)
    larger.set(bytes, 7)
    expect(isSigned(secret, larger.subarray(7, 7 + bytes.length), sign(text))).toBe(true)
    expect(isSigned(secret, larger, sign(text))).toBe(false)
  })

  test('invalid UTF-8 never passes for the text that it decodes to', async () => {
    const bytes = Buffer.from([0x22, 0xff, 0x22])
    expect(isSigned(secret, bytes, sign(bytes.toString('utf8')))).toBe(false)
  })

  test.each<[string, string | undefined]>([
    ['none', undefined],
    ['an empty one', ''],
    ['one by another secret', sign('body', 'other')],
    ['SHA-1', `sha1=${createHmac('sha1', secret).update('body').digest('hex')}`],
    ['SHA-1 under the name of SHA-256', `sha256=${createHmac('sha1', secret).update('body').digest('hex')}`],
    ['no algorithm', sign('body').slice('sha256='.length)],
    ['one digit less', sign('body').slice(0, -1)],
    ['one digit more', `${sign('body')}0`],
    ['capitals', sign('body').toUpperCase()],
    ['other characters', `sha256=${'é'.repeat(64)}`],
    ['two of them', `${sign('body')}, ${sign('body')}`],
  ])('refuses %s', async (_, signature) => {
    expect(isSigned(secret, 'body', signature)).toBe(false)
  })

  test('a header that is not a string and an empty secret are refused', async () => {
    const headers = [sign('body')] as unknown as string
    expect(isSigned(secret, 'body', headers)).toBe(false)
    expect(isSigned('', 'body', sign('body', ''))).toBe(false)
  })
})

describe('webhookBody', () => {
  const payload = { ref: 'refs/heads/main', message: 'a+b & c=d; 100% "ü" 🚀' }
  const json = JSON.stringify(payload)
  const form = new URLSearchParams({ payload: json }).toString()

  test.each([
    ['application/json', json],
    ['application/json; charset=utf-8', json],
    ['Application/JSON', json],
    ['application/x-www-form-urlencoded', form],
    ['application/x-www-form-urlencoded; charset=UTF-8', form],
    ['application/x-www-form-urlencoded', `before=1&${form}&after=2`],
  ])('%s', async (type, body) => {
    expect(await webhookBody('push', type, body)).toEqual(payload)
    expect(await webhookBody('push', type, Buffer.from(body))).toEqual(payload)
  })

  test.each<[string | undefined, string]>([
    [undefined, 'unsupported content type (none)'],
    ['', 'unsupported content type (none)'],
    ['text/plain', 'unsupported content type "text/plain"'],
    ['multipart/form-data; boundary=x', 'unsupported content type "multipart/form-data"'],
  ])('the content type %s', async (type, message) => {
    const error = await failureOf(webhookBody('push', type, json))
    expect(error.message).toBe(message)
    expect(error.hint).toBe('Set the content type of the webhook to application/json')
  })

  test.each([
    ['', 'unexpected end at position 0 of 0 characters'],
    ['  ', 'unexpected end at position 2 of 2 characters'],
    ['{"a": [1, {}', 'unexpected end at position 12 of 12 characters'],
    ['{"a": "x', 'unexpected end at position 8 of 8 characters'],
    ['\ufeff{}', 'syntax error at position 0 of 3 characters'],
    ['hello', 'syntax error at position 0 of 5 characters'],
    ['payload=%7B%7D', 'syntax error at position 0 of 14 characters'],
    ['{"a": hello}', 'syntax error at position 6 of 12 characters'],
    ['{"a": tru}', 'syntax error at position 6 of 10 characters'],
    ['{"a" "b"}', 'syntax error at position 5 of 9 characters'],
    ['{"a": }', 'syntax error at position 6 of 7 characters'],
    ['{"a": [}', 'syntax error at position 7 of 8 characters'],
    ['{"a": [],, "b": 1}', 'syntax error at position 9 of 18 characters'],
    ['["]}\\"", [], {}, -1.5e3, null, true,\n ]', 'syntax error at position 38 of 39 characters'],
    ['["\\\\", , 1]', 'syntax error at position 7 of 11 characters'],
    ['{"a": 1} x', 'syntax error at position 9 of 10 characters'],
    ["{'a': 1}", 'syntax error at position 1 of 8 characters'],
    ['{"a": 01}', 'syntax error at position 7 of 9 characters'],
    ['{"token": "at position 99", x}', 'syntax error at position 28 of 30 characters'],
    ['{"token": "at position 99", "y": x}', 'syntax error at position 33 of 35 characters'],
  ])('%j is not JSON', async (body, where) => {
    expect((await failureOf(webhookBody('push', 'application/json', body))).message).toBe(
      `the body is not JSON: ${where}`,
    )
    const inForm = new URLSearchParams({ payload: body }).toString()
    const error = await failureOf(webhookBody('push', 'application/x-www-form-urlencoded', inForm))
    expect(error.message).toBe(`the form field "payload" is not JSON: ${where}`)
  })

  test.each([
    ['', 'the form has no field "payload"'],
    ['{"ref": 1}', 'the form has no field "payload"'],
    [`${form}&${form}`, 'the form has more than one field "payload"'],
    ['x-payload=1&payload', 'the form has no field "payload"'],
    ['payload=%7B%7', 'the form field "payload" is not properly encoded'],
    ['payload=%FF', 'the form field "payload" is not properly encoded'],
    ['payload=%4', 'the form field "payload" is not properly encoded'],
    ['payload=%4/', 'the form field "payload" is not properly encoded'],
    ['payload=%G0', 'the form field "payload" is not properly encoded'],
    ['payload=%:0', 'the form field "payload" is not properly encoded'],
  ])('the form %j', async (body, message) => {
    const error = await failureOf(webhookBody('push', 'application/x-www-form-urlencoded', body))
    expect(error.message).toBe(message)
  })

  test('bytes that are not UTF-8', async () => {
    const error = await failureOf(webhookBody('push', 'application/json', Buffer.from([0x22, 0xff, 0x22])))
    expect(error.message).toBe('the body is not valid UTF-8')
  })

  test('a payload of 25 MB is read, and an error at its end is reported', async () => {
    const push = await pushPayload(FACTS)
    const [commit] = push.commits as Json[]
    const commits = Array.from({ length: 20_000 }, () => ({ ...commit, message: 'x"\\ü'.repeat(100) }))
    const body = JSON.stringify({ ...push, commits })
    expect(body.length).toBeGreaterThan(20_000_000)
    const signature = `sha256=${createHmac('sha256', 's').update(body).digest('hex')}`
    const bytes = Buffer.from(body)
    expect(isSigned('s', bytes, signature)).toBe(true)
    expect(
      parseWebhook('push', DELIVERY, await webhookBody('push', 'application/json', bytes)),
    ).toMatchObject({
      kind: 'build',
      request: { sha: SHA },
    })
    const cut = body.slice(0, -1)
    expect((await failureOf(webhookBody('push', 'application/json', cut))).message).toBe(
      `the body is not JSON: unexpected end at position ${cut.length} of ${cut.length} characters`,
    )
    const broken = `[${body}, ]`
    expect((await failureOf(webhookBody('push', 'application/json', broken))).message).toBe(
      `the body is not JSON: syntax error at position ${broken.length - 1} of ${broken.length} characters`,
    )
  })

  test.each([
    ['numbers', () => `[${'1,'.repeat(MB)}1]`],
    ['arrays in each other', () => '['.repeat(20 * MB)],
    ['objects in each other', () => '{"a":'.repeat(4 * MB)],
    ['empty objects', () => `[${'{},'.repeat(6 * MB)}1]`],
    ['fields', () => `{${Array.from({ length: MB }, (_, i) => `"k${i}":"v"`).join()}}`],
    ['one field again and again', () => `{"x":[${'0,'.repeat(MB)}0]${',"before":"b"'.repeat(MB)}}`],
    ['escapes', () => `{"x":"${'\\n\\"'.repeat(5 * MB)}"}`],
    ['backslashes', () => `{"x":"${'\\'.repeat(20 * MB)}"}`],
    ['backslashes of a ref', () => `{"ref":"${'\\\\'.repeat(12 * MB)}"}`],
    ['empty strings', () => `[${'"",'.repeat(8 * MB)}1]`],
    ['an encoded form', () => `payload=${'%7B%22a%22:'.repeat(2 * MB)}`],
    ['a form of spaces', () => `payload=${'+'.repeat(25 * MB)}`],
    ['many names in a form', () => 'payload='.repeat(3 * MB)],
    ['names in a form that are not fields', () => `payload=${'xpayload='.repeat(2 * MB)}`],
  ])('%s of a large body neither block the event loop nor use much memory', async (_, make) => {
    const body = Buffer.from(make())
    const type = body[0] === 0x70 ? 'application/x-www-form-urlencoded' : 'application/json'
    const before = process.memoryUsage().rss
    const turn = longestTurn()
    await webhookBody('push', type, body).catch((error) => expect(error).toBeInstanceOf(ConveyorError))
    expect(turn.ms()).toBeLessThan(250)
    expect((process.memoryUsage().rss - before) / MB).toBeLessThan(250)
  })
})

const MB = 1024 * 1024
