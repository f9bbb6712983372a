import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import { GitHubSignature } from '../../src/lib/forge/github/webhook/signature.ts'
import { parseWebhook, webhookBody } from '../../src/lib/forge/github/webhook/webhook.ts'
import { startGitHubDouble } from '../support/github/double.ts'
import { sendPush } from '../support/github/push.ts'

/** The double is only useful if it detects mistakes, so these tests make some. */

const SHA = '6113728f27ae82c7b1a177c8d03f9e96e0adf246'
const STATUSES = `/repos/octo/app/statuses/${SHA}`

describe('the test double of GitHub', () => {
  test.each<[string, string, string, unknown, string]>([
    [
      'a state that does not exist',
      'POST',
      STATUSES,
      { state: 'done' },
      'body/state: must be equal to one of the allowed values',
    ],
    ['no state', 'POST', STATUSES, {}, "body: must have required property 'state'"],
    ['no body', 'POST', STATUSES, undefined, 'the body is missing'],
    ['a wrong type', 'POST', STATUSES, { state: 'error', context: 1 }, 'body/context: must be string'],
    [
      'a misspelt field',
      'POST',
      STATUSES,
      { state: 'error', targetUrl: 'https://x' },
      'body/targetUrl: GitHub knows no such field',
    ],
    [
      'a long description',
      'POST',
      STATUSES,
      { state: 'error', description: 'x'.repeat(141) },
      'description is too long (maximum is 140 characters)',
    ],
    [
      'a relative URL',
      'POST',
      STATUSES,
      { state: 'error', target_url: '/logs/1' },
      'target_url must use http(s) scheme',
    ],
    [
      'a short sha',
      'POST',
      '/repos/octo/app/statuses/6113728',
      { state: 'error' },
      'No commit found for SHA: 6113728',
    ],
    ['an unknown parameter', 'GET', '/repos/octo/app?page=2', undefined, 'unknown parameter page'],
  ])('%s is a violation', async (_, method, path, body, violation) => {
    await using double = await startGitHubDouble()
    const answer = await fetch(double.url + path, {
      method,
      headers: { 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
    })
    expect(answer.status).toBe(422)
    expect(double.violations).toEqual([`${method} ${path}: ${violation}`])
    expect(double.statuses).toEqual([])
  })

  test('an operation that it does not support, and a body that is not JSON', async () => {
    await using double = await startGitHubDouble()
    expect((await fetch(`${double.url}/repos/octo/app/pulls`)).status).toBe(404)
    expect((await fetch(double.url + STATUSES, { method: 'POST', body: '{' })).status).toBe(400)
    expect(double.violations).toHaveLength(2)
  })

  test('writes require the token', async () => {
    await using double = await startGitHubDouble({ token: 'secret' })
    const set = async (headers: Record<string, string>) => {
      const body = JSON.stringify({ state: 'success' })
      const all = { 'content-type': 'application/json', ...headers }
      const answer = await fetch(double.url + STATUSES, { method: 'POST', headers: all, body })
      return [answer.status, ((await answer.json()) as { message?: string }).message]
    }
    expect(await set({})).toEqual([401, 'Requires authentication'])
    expect(await set({ authorization: 'token other' })).toEqual([401, 'Bad credentials'])
    expect(await set({ authorization: 'Bearer secret' })).toEqual([201, undefined])
    expect(double.violations).toEqual([])
  })

  test('waitForStatus finds present and future statuses, or reports what there was', async () => {
    await using double = await startGitHubDouble()
    const coming = double.waitForStatus(({ state }) => state === 'success')
    const body = JSON.stringify({ state: 'success', description: 'Done' })
    await fetch(double.url + STATUSES, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    expect(await coming).toMatchObject({ repository: 'octo/app', sha: SHA, context: 'default' })
    expect(await double.waitForStatus(({ description }) => description === 'Done')).toBe(await coming)
    await expect(double.waitForStatus(({ state }) => state === 'error', 10)).rejects.toThrow(
      'no matching status within 10 ms; received: octo/app 6113728 success: Done',
    )
  })
})

describe('sendPush', () => {
  test.each(['json', 'form'] as const)('a signed push as %s, over HTTP', async (contentType) => {
    let headers: IncomingHttpHeaders = {}
    let body = Buffer.alloc(0)
    const server = createServer(async (request, response) => {
      headers = request.headers
      body = await buffer(request)
      response.writeHead(202).end('accepted')
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    try {
      const answer = await sendPush({
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
        secret: 'shh',
        repository: 'octo/app',
        ref: 'refs/heads/feature/x',
        sha: SHA,
        message: 'Größer + besser & 100% [docker nocache]',
        defaultBranch: 'trunk',
        delivery: 'a-delivery',
        contentType,
      })
      expect(answer).toEqual({ status: 202, body: 'accepted' })
    } finally {
      server.close()
    }
    const header = (name: string) => String(headers[name])
    expect(header('user-agent')).toMatch(/^GitHub-Hookshot\//)
    expect(header('x-hub-signature')).toMatch(/^sha1=[0-9a-f]{40}$/)
    for (const [secret, isRight] of [
      ['shh', true],
      ['other', false],
    ] as const) {
      const hash = new GitHubSignature(secret)
      hash.update(body)
      expect(hash.matches(header('x-hub-signature-256'))).toBe(isRight)
    }
    const payload = await webhookBody('push', header('content-type'), body)
    expect(parseWebhook(header('x-github-event'), header('x-github-delivery'), payload)).toEqual({
      kind: 'build',
      message: 'Größer + besser & 100% [docker nocache]',
      request: {
        repository: 'octo/app',
        sha: SHA,
        ref: { kind: 'branch', name: 'feature/x' },
        defaultBranch: 'trunk',
        push: { before: '0'.repeat(40), after: SHA, pushedAt: 1557933657 },
        cache: false,
        commit: {
          title: 'Größer + besser & 100% [docker nocache]',
          author: 'Codertocat',
          login: 'Codertocat',
        },
        tree: expect.stringMatching(/^[0-9a-f]{40}$/),
        source: { kind: 'webhook', delivery: 'a-delivery' },
      },
    })
  })
})
