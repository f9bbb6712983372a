import { type EventExamples, pushPayload, webhookExamples } from '../../support/github/push.ts'
import type { Chance } from './chance.ts'
import { mutated, mutatedBytes, ODD, textOf } from './mutate.ts'

/** The body and headers of a webhook, correctly signed. */
export interface WebhookInput {
  event: string
  delivery: string
  contentType: string | undefined
  body: Buffer
}

const SHA = 'a'.repeat(40)
const WORDS = [
  '"ref":',
  '"deleted":',
  'true',
  'false',
  'null',
  '1e400',
  '-0',
  '[',
  ']',
  '{',
  '}',
  ',',
  ':',
  '"',
  '\\u0000',
  '\\ud800',
]
const REFS = [
  'refs/heads/main',
  'refs/tags/v1',
  'refs/heads/',
  'refs/heads/a/b',
  'refs/pull/1/head',
  'refs/heads/a..b',
  'refs/heads/@',
  'refs/heads/-x',
]
const VALUES: unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -1,
    1e21,
    1.5,
    '',
    'x',
    [],
    {},
    [[]],
    { a: 1 },
    SHA,
    'g'.repeat(40),
    'A'.repeat(64),
    ...REFS,
  ],
  ...[
    'acme/app',
    'a/b/c',
    '../..',
    'acme/app.git',
    '2024-01-01T00:00:00Z',
    'x'.repeat(300),
    '\ud800',
    '\0',
    '[docker nocache]',
  ],
]
const TYPES = [
  'application/json',
  'application/json',
  'application/json; charset=utf-8',
  'application/x-www-form-urlencoded',
  'text/plain',
  '',
  'application/JSON;x',
  undefined,
]
const ENCODED = '%'
/** Events besides pushes that lead to something. */
const HANDLED = ['pull_request', 'merge_group', 'issue_comment', 'issue_comment', 'check_run', 'check_suite']
const COMMENT = ['/build', ' ', '\t', '\n', SHA, '0123456', 'x', '> ', '`']

/** Bodies of webhooks, based on GitHub's own examples. */
export class WebhookBodies {
  readonly #events: EventExamples[]
  readonly #push: Record<string, unknown>

  private constructor(events: EventExamples[], push: Record<string, unknown>) {
    this.#events = events
    this.#push = push
  }

  static async of(repository: string): Promise<WebhookBodies> {
    const facts = {
      repository,
      ref: 'refs/heads/main',
      sha: SHA,
      before: 'b'.repeat(40),
      pushedAt: 1_700_000_000,
    }
    return new WebhookBodies(await webhookExamples(), await pushPayload(facts))
  }

  draw(chance: Chance): WebhookInput {
    const isPush = chance.percent(70)
    const handled = chance.percent(80) ? chance.one(HANDLED) : null
    const other = this.#events.find(({ name }) => name === handled) ?? chance.one(this.#events)
    const contentType = chance.one(TYPES)
    const bytes = chance.percent(0.4)
      ? long(chance, contentType)
      : this.#short(
          chance,
          isPush ? this.#push : withCommand(chance, chance.one(other.examples)),
          contentType,
        )
    return {
      event: isPush
        ? 'push'
        : chance.percent(80)
          ? other.name
          : chance.one(['ping', 'x'.repeat(200), '__proto__']),
      delivery: chance.percent(98)
        ? `fuzz-${chance.bytes(8).toString('hex')}`
        : chance.one(['x', '-', '"', 'x'.repeat(200)]),
      contentType,
      body: chance.percent(10) && bytes.length < 1 << 20 ? mutatedBytes(chance, bytes) : bytes,
    }
  }

  #short(chance: Chance, payload: unknown, contentType: string | undefined): Buffer {
    const json = this.#json(chance, payload)
    const isForm = contentType?.includes('urlencoded') || chance.percent(2)
    return Buffer.from(isForm ? form(chance, json) : json)
  }

  #json(chance: Chance, payload: unknown): string {
    const copy = structuredClone(payload) as Record<string, unknown>
    for (let left = chance.size(4); left > 0; left -= 1) changeSomewhere(chance, copy)
    const text = JSON.stringify(copy)
    if (chance.percent(5))
      return text.replace(
        '{',
        `{"${chance.one(['ref', '\\u0072ef', 'repository', '__proto__'])}":${JSON.stringify(chance.one(VALUES))},`,
      )
    return chance.percent(30) ? mutated(chance, text, WORDS) : text
  }
}

/** A comment on a pull request that may be a command, also one of mostly the same character; other events as they are. */
function withCommand(chance: Chance, example: Record<string, unknown>): Record<string, unknown> {
  const {
    issue,
    comment,
    check_run: run,
  } = example as { issue?: object; comment?: object; check_run?: object }
  if ((run || 'check_suite' in example) && chance.percent(70)) {
    const action = chance.one(['rerequested', 'requested_action', 'completed'])
    const asked = {
      ...example,
      action,
      requested_action: { identifier: chance.one(['cancel', 'x'.repeat(200)]) },
    }
    return run
      ? { ...asked, check_run: { ...run, external_id: chance.one(['', 'x', 'x'.repeat(200)]) } }
      : asked
  }
  if (!issue || !comment || chance.percent(10)) return example
  const blank = chance.percent(5) ? chance.one([' ', '\t', 'x', '\r', '\n']).repeat(60_000) : ' '
  const body = chance.percent(50)
    ? `/build${blank}${SHA}${chance.one(['', '\r\n', ' x', blank])}`
    : textOf(chance, COMMENT, 60)
  const pull = { ...issue, pull_request: { url: 'https://api.github.com/x' } }
  return { ...example, action: 'created', issue: pull, comment: { ...comment, body } }
}

/** The fields that builds are made from, and some others. */
const READ = [
  'ref',
  'before',
  'after',
  'deleted',
  'head_commit',
  'repository',
  'head_commit.id',
  'head_commit.tree_id',
  'head_commit.message',
  'repository.full_name',
  'repository.fork',
  'repository.default_branch',
  'repository.pushed_at',
]
/** The same of other events. */
const READ_ELSEWHERE = [
  ...['action', 'number', 'before', 'reason', 'pull_request', 'pull_request.title', 'pull_request.state'],
  ...[
    'pull_request.updated_at',
    'pull_request.head',
    'pull_request.head.sha',
    'pull_request.head.repo',
    'merge_group',
  ],
  ...[
    'merge_group.head_sha',
    'merge_group.head_ref',
    'merge_group.head_commit',
    'issue',
    'issue.number',
    'comment',
  ],
  ...[
    'comment.body',
    'comment.user',
    'comment.user.login',
    'check_run.external_id',
    'check_run.head_sha',
    'check_suite',
  ],
  ...['requested_action', 'sender.login', 'repository', 'repository.full_name', 'repository.fork'],
]

function changeSomewhere(chance: Chance, payload: Record<string, unknown>): void {
  const path = chance.percent(80)
    ? chance.one('ref' in payload ? READ : READ_ELSEWHERE).split('.')
    : chance.times(1, 2, () => chance.one(Object.keys(payload)))
  const last = path.pop() ?? ''
  const parent = path.reduce<unknown>(
    (value, key) => (value as Record<string, unknown> | null)?.[key],
    payload,
  )
  if (typeof parent !== 'object' || parent === null) return
  const fields = parent as Record<string, unknown>
  if (chance.percent(15)) delete fields[last]
  else if (last === 'ref' && chance.percent(70))
    fields[last] = `refs/${chance.one(['heads', 'tags', 'x'])}/${refName(chance)}`
  else fields[last] = structuredClone(chance.one(VALUES))
}

/** Names of branches and tags, valid or not. */
export function refName(chance: Chance): string {
  const name = chance
    .times(1, 3, () => chance.one(['main', 'fix', 'v1.2', 'a-b', '.x', 'x.lock', 'é', 'latest', SHA]))
    .join('/')
  return chance.percent(40) ? mutated(chance, name, ODD) : name
}

function form(chance: Chance, json: string): string {
  const encoded = new URLSearchParams({ payload: json.toWellFormed() }).toString()
  const words = ['&', '=', 'payload=', '&payload=', '%zz', '%F', '%FF', '+']
  return chance.percent(20) ? mutated(chance, encoded, words) : encoded
}

/** The same thing over and over, as long as GitHub's may be, or long enough to make a difference. */
function long(chance: Chance, contentType: string | undefined): Buffer {
  const length = chance.one([200 << 10, 300 << 10, 1 << 20, 5 << 20, (25 << 20) - 100])
  const piece = chance.one([
    '[',
    '{"a":',
    '1,',
    '{},',
    '[],',
    '"",',
    '"\\n",',
    'x',
    '\\',
    '\\\\',
    '\\"',
    '€',
    ' ',
    '"a":1,',
    `${ENCODED}7B`,
    '"ref":"refs/heads/main",',
  ])
  const [head, tail] = chance.one([
    ['', ''],
    ['[', '1]'],
    ['{"x":[', '1],"ref":"refs/heads/main","deleted":true,"repository":{"fork":false}}'],
    ['{"ref":"', '"}'],
    ['{"head_commit":{"message":"', '"}}'],
    ['{', '"b":1}'],
  ])
  const filling = length - 200 - ((length - 200) % Buffer.byteLength(piece))
  const field = contentType?.includes('urlencoded') ? 'payload=' : ''
  // Only one copy, because the memory of the process is checked.
  const [start, end] = [Buffer.from(field + head), Buffer.from(tail)]
  const body = Buffer.alloc(start.length + filling + end.length)
  start.copy(body)
  body.fill(piece, start.length, start.length + filling)
  end.copy(body, start.length + filling)
  return body
}
