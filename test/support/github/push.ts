import { createHash, createHmac, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { githubSchema } from './schema.ts'

/** Webhooks as GitHub sends them, made from its published examples (npm: @octokit/webhooks-examples). */

type Json = Record<string, unknown>

/** One event, with GitHub's example payloads for it. */
export interface EventExamples {
  name: string
  examples: Json[]
}

let read: Promise<EventExamples[]> | undefined

/** Every published example. They are shared: copy one before changing it. */
export function webhookExamples(): Promise<EventExamples[]> {
  const file = createRequire(import.meta.url).resolve('@octokit/webhooks-examples/api.github.com/index.json')
  read ??= readFile(file, 'utf8').then((text) => JSON.parse(text) as EventExamples[])
  return read
}

export interface PushFacts {
  /** `owner/name`. */
  repository: string
  /** Full: `refs/heads/main`. */
  ref: string
  /** The commit; replaced by GitHub's zeros if `deleted`. */
  sha: string
  /** The tree of the head commit; by default one that belongs to no commit. */
  tree?: string | undefined
  /** The head commit's message. */
  message?: string
  defaultBranch?: string
  /** What the ref pointed at before; nothing by default. */
  before?: string
  /** When it was pushed, in seconds since 1970; by default the time in GitHub's example. */
  pushedAt?: number
  /** For an annotated tag: the id of the tag object, which GitHub sends as `after`. */
  tagObject?: string
  fork?: boolean
  deleted?: boolean
}

const NOTHING = '0'.repeat(40)

/** A push payload with these facts, valid by GitHub's own schema. */
export async function pushPayload(facts: PushFacts): Promise<Json> {
  const { repository, ref, sha, message = 'Change something', deleted = false } = facts
  const [owner, name] = repository.split('/')
  const events = await webhookExamples()
  const example = events
    .find((event) => event.name === 'push')
    ?.examples.find((push) => push.ref === 'refs/heads/master')
  if (!example) throw new Error('GitHub has no example of a push to a branch')

  // Names and ids occur inside many URLs, so they are replaced in the text.
  const text = JSON.stringify(example)
    .replaceAll('Codertocat/Hello-World', repository)
    .replaceAll(String(example.after), sha)
  const payload = JSON.parse(text) as Json & { repository: Json & { owner: Json }; head_commit: Json }
  const tree_id = facts.tree ?? createHash('sha1').update(sha).digest('hex')
  const head = { ...payload.head_commit, message, tree_id, timestamp: new Date().toISOString() }
  Object.assign(payload.repository.owner, { login: owner, name: owner })
  Object.assign(payload.repository, {
    name,
    fork: facts.fork ?? false,
    default_branch: facts.defaultBranch ?? 'main',
    ...(facts.pushedAt === undefined ? {} : { pushed_at: facts.pushedAt }),
    // Required by the schema, but newer than the example.
    has_discussions: false,
  })
  Object.assign(payload, {
    ref,
    before: deleted ? sha : (facts.before ?? NOTHING),
    after: deleted ? NOTHING : (facts.tagObject ?? sha),
    created: !deleted && (facts.before ?? NOTHING) === NOTHING,
    deleted,
    head_commit: deleted ? null : head,
    commits: deleted ? [] : [head],
  })
  const problems = (await githubSchema()).checkPayload('webhook-push', payload)
  if (problems.length > 0) throw new Error(`not a push that GitHub would send: ${problems.join('; ')}`)
  return payload
}

export interface Delivery {
  /** Where the webhook goes. */
  url: string
  /** Without a secret, the delivery is not signed. */
  secret?: string
  event: string
  payload: unknown
  /** X-GitHub-Delivery; repeating one makes it a redelivery. */
  delivery?: string
  /** The content type chosen in the webhook's settings. */
  contentType?: 'json' | 'form'
}

export interface WebhookAnswer {
  status: number
  body: string
}

/** Delivers one event with GitHub's headers and signatures, and waits as long as GitHub does: 10 s. */
export async function sendWebhook(delivery: Delivery): Promise<WebhookAnswer> {
  const json = JSON.stringify(delivery.payload)
  const form = delivery.contentType === 'form'
  const body = form ? new URLSearchParams({ payload: json }).toString() : json
  const answer = await fetch(delivery.url, {
    method: 'POST',
    body,
    redirect: 'manual',
    signal: AbortSignal.timeout(10_000),
    headers: {
      accept: '*/*',
      'content-type': form ? 'application/x-www-form-urlencoded' : 'application/json',
      'user-agent': 'GitHub-Hookshot/044aadd',
      'x-github-delivery': delivery.delivery ?? randomUUID(),
      'x-github-event': delivery.event,
      'x-github-hook-id': '292430182',
      'x-github-hook-installation-target-id': '186853002',
      'x-github-hook-installation-target-type': 'repository',
      ...(delivery.secret === undefined ? {} : signatures(delivery.secret, body)),
    },
  })
  return { status: answer.status, body: await answer.text() }
}

/** Delivers a push: see pushPayload and sendWebhook. */
export async function sendPush(
  push: PushFacts & Omit<Delivery, 'event' | 'payload'>,
): Promise<WebhookAnswer> {
  return sendWebhook({ ...push, event: 'push', payload: await pushPayload(push) })
}

function signatures(secret: string, body: string): Record<string, string> {
  const sign = (algorithm: string) =>
    `${algorithm}=${createHmac(algorithm, secret).update(body).digest('hex')}`
  return { 'x-hub-signature': sign('sha1'), 'x-hub-signature-256': sign('sha256') }
}
