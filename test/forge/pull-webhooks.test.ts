import { describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { Webhook } from '../../src/lib/forge/forge.ts'
import { parseWebhook, webhookBody } from '../../src/lib/forge/github/webhook/webhook.ts'
import { commentEvent, mergeGroupEvent, pullEvent } from '../support/github/pull-events.ts'
import { webhookExamples } from '../support/github/push.ts'
import { threadTime } from '../support/timing/thread-time.ts'

/** How events of pull requests and merge queues are read. */

type Json = Record<string, unknown>

const DELIVERY = '72d3162e-cc78-11e3-81ab-4c9367dc0958'
const SHA = 'a'.repeat(40)
const PULL = { repository: 'octo/app', number: 7, sha: SHA, title: 'Greet\npeople', author: 'ada' }

async function kindsOf(event: string): Promise<Record<string, string[]>> {
  const examples = (await webhookExamples()).find(({ name }) => name === event)?.examples ?? []
  const read = examples.map(
    (payload) => [String(payload.action), parseWebhook(event, DELIVERY, payload)] as const,
  )
  const kinds: Record<string, string[]> = {}
  for (const [action, webhook] of read) {
    const said = webhook.kind === 'ignored' ? `${webhook.quiet ? 'quietly ' : ''}ignored` : webhook.kind
    kinds[said] = [...new Set([...(kinds[said] ?? []), action])].sort()
  }
  return kinds
}

describe('GitHub’s published examples', () => {
  test('of pull requests matter if the head moves, or they are closed', async () => {
    const kinds = await kindsOf('pull_request')
    expect(kinds.pull).toEqual(['closed', 'opened', 'reopened', 'synchronize'])
    expect(Object.keys(kinds).sort()).toEqual(['pull', 'quietly ignored'])
    expect(kinds['quietly ignored']).toContain('labeled')
  })

  test('of merge queues request builds, and of comments nothing', async () => {
    expect(await kindsOf('merge_group')).toEqual({ merge_group: ['checks_requested'] })
    expect(await kindsOf('issue_comment')).toEqual({ 'quietly ignored': ['created', 'deleted', 'edited'] })
  })
})

test('a pull request is read with its head, and what orders it', async () => {
  const facts = {
    ...PULL,
    fork: 'mallory/app',
    branch: 'topic/x',
    before: 'b'.repeat(40),
    updatedAt: 1_800_000_123,
  }
  const { event, payload } = await pullEvent('synchronize', facts)
  expect(parseWebhook(event, DELIVERY, payload)).toEqual({
    kind: 'pull',
    action: 'moved',
    pull: {
      ...{ repository: 'octo/app', number: 7, title: 'Greet people', author: 'ada', open: true },
      head: { sha: SHA, branch: 'topic/x', repository: 'mallory/app' },
      updatedAt: '2027-01-15T08:02:03.000Z',
    },
    push: { before: 'b'.repeat(40), after: SHA, pushedAt: 1_800_000_123 },
    defaultBranch: 'main',
    delivery: DELIVERY,
  })
})

test('a fork that was deleted has no name, and neither has its owner', async () => {
  const { event, payload } = await pullEvent('closed', PULL)
  const pull = payload.pull_request as Json
  Object.assign(pull, { user: null, head: { ...(pull.head as Json), repo: null } })
  const read = parseWebhook(event, DELIVERY, payload) as Extract<Webhook, { kind: 'pull' }>
  expect(read.pull).toMatchObject({ open: false, author: 'ghost', head: { repository: null } })
})

test('a merge queue’s commit has the tree of its own commit only', async () => {
  const branch = 'gh-readonly-queue/main/pr-7-abc'
  const { event, payload } = await mergeGroupEvent({
    repository: 'octo/app',
    sha: SHA,
    branch,
    tree: 'c'.repeat(40),
  })
  expect(parseWebhook(event, DELIVERY, payload)).toMatchObject({
    request: { sha: SHA, tree: 'c'.repeat(40), ref: { kind: 'branch', name: branch } },
  })
  const group = payload.merge_group as { head_commit: Json }
  group.head_commit.id = 'd'.repeat(40)
  const other = parseWebhook(event, DELIVERY, payload) as { request?: object }
  expect(other.request).toMatchObject({ sha: SHA })
  expect(other.request).not.toHaveProperty('tree')
})

test.each([
  ['pull_request', 'number', -1, 'number'],
  ['pull_request', 'number', '7', 'number'],
  ['pull_request', 'pull_request.head.sha', '--upload-pack=x', 'sha'],
  ['pull_request', 'pull_request.head.ref', '../x', 'ref'],
  ['pull_request', 'pull_request.head.repo.full_name', '../../etc', 'full_name'],
  ['pull_request', 'pull_request.updated_at', 'yesterday', 'updated_at'],
  ['merge_group', 'merge_group.head_ref', 'refs/heads/a b', 'head_ref'],
  ['merge_group', 'merge_group.head_sha', 'main', 'head_sha'],
  ['issue_comment', 'comment.user.login', '../admin', 'login'],
  ['issue_comment', 'repository.full_name', 'a/b/c', 'full_name'],
])('%s: an invalid %s is named', async (name, path, value, field) => {
  const made = {
    pull_request: await pullEvent('opened', PULL),
    merge_group: await mergeGroupEvent({
      repository: 'octo/app',
      sha: SHA,
      branch: 'gh-readonly-queue/main/x',
    }),
    issue_comment: await commentEvent({
      repository: 'octo/app',
      number: 7,
      login: 'ada',
      body: `/build ${SHA}`,
    }),
  }[name]
  const payload = made?.payload ?? {}
  const keys = path.split('.')
  const last = keys.pop() ?? ''
  const parent = keys.reduce<Json>((part, key) => part[key] as Json, payload)
  parent[last] = value
  expect(() => parseWebhook(name, DELIVERY, payload)).toThrow(ConveyorError)
  expect(() => parseWebhook(name, DELIVERY, payload)).toThrow(new RegExp(`^${name} payload: .*${field}`))
})

test('long payloads say the same as short ones', async () => {
  const events = [
    await pullEvent('synchronize', { ...PULL, fork: 'mallory/app' }),
    await mergeGroupEvent({
      repository: 'octo/app',
      sha: SHA,
      branch: 'gh-readonly-queue/main/x',
      tree: SHA,
    }),
    await commentEvent({ repository: 'octo/app', number: 7, login: 'ada', body: `/build ${SHA}` }),
  ]
  for (const { event, payload } of events) {
    const long = JSON.stringify({ padding: 'x'.repeat(300_000), ...payload })
    const read = await webhookBody(event, 'application/json', long)
    expect(read).not.toHaveProperty('padding')
    expect(parseWebhook(event, DELIVERY, read)).toEqual(parseWebhook(event, DELIVERY, payload))
  }
})

test('a comment of any form is read in no time', async () => {
  const blanks = ' '.repeat(60_000)
  for (const body of [
    `/build${blanks}x y`,
    `/build x${blanks}y`,
    `${blanks}/build${blanks}\ty`,
    `/build ${'x'.repeat(60_000)} y`,
  ]) {
    const { event, payload } = await commentEvent({ repository: 'octo/app', number: 7, login: 'ada', body })
    const taken = threadTime()
    expect(parseWebhook(event, DELIVERY, payload)).toMatchObject({ kind: 'ignored' })
    expect(taken()).toBeLessThan(1000)
  }
})
