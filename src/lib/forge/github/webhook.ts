import { isUtf8 } from 'node:buffer'
import { type CommitInfo, commitInfo, type PushFacts } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { parseRef, validRefName, validRepository, validSha } from '../../core/validate.ts'
import type { Webhook, WebhookParser } from '../forge.ts'
import { type FieldSelection, JsonSyntaxError, parsePartialJson } from './partial-json.ts'
import { GitHubSignature } from './webhook-signature.ts'

/**
 * Parses GitHub's webhooks, without side effects: bytes and headers go in, values come out. Reads only the few
 * fields that a build needs, each by name and with its type checked, so a payload with thousands of commits
 * costs no more than a small one.
 */

export const githubWebhooks: WebhookParser = {
  signature: (secret) => new GitHubSignature(secret),
  payload: webhookBody,
  about,
  parse: parseWebhook,
}

/** Anywhere in the head commit's message, this disables the cache. */
const NO_CACHE = '[docker nocache]'

/** Fields of a push that parseWebhook reads. */
const PUSH_FIELDS: FieldSelection = {
  ...{ ref: true, before: true, after: true, deleted: true },
  head_commit: { id: true, tree_id: true, message: true, author: { name: true, username: true } },
  sender: { login: true },
  repository: { full_name: true, fork: true, default_branch: true, pushed_at: true },
}

/**
 * The payload in a webhook's body: JSON, or a form with JSON in its field `payload`. Long payloads contain only
 * PUSH_FIELDS.
 * @throws ConveyorError `invalid` with the position of the error, without quoting the body
 */
export async function webhookBody(
  contentType: string | undefined,
  rawBody: Uint8Array | string,
): Promise<unknown> {
  const type = contentType?.split(';')[0]?.trim().toLowerCase()
  if (type !== 'application/json' && type !== 'application/x-www-form-urlencoded') {
    throw new ConveyorError('invalid', `unsupported content type ${type ? show(type) : '(none)'}`, {
      hint: 'Set the content type of the webhook to application/json',
    })
  }
  if (typeof rawBody !== 'string' && !isUtf8(rawBody)) {
    throw new ConveyorError('invalid', 'the body is not valid UTF-8')
  }
  const text = typeof rawBody === 'string' ? rawBody : bufferOf(rawBody).toString('utf8')
  const isForm = type !== 'application/json'
  const [json, what] = isForm ? [payloadField(text), 'the form field "payload"'] : [text, 'the body']
  return json.length > MAX_PARSED_AT_ONCE ? pick(json, what) : parseJson(json, what)
}

function about(payload: unknown): { repository: string | null; ref: string | null } {
  const fields = asAnyObject(payload)
  return { repository: fields.anyObject('repository').anyText('full_name'), ref: fields.anyText('ref') }
}

/** Longer texts are parsed in pieces; JSON.parse takes at most some milliseconds for this one. */
const MAX_PARSED_AT_ONCE = 256 * 1024

async function pick(text: string, what: string): Promise<unknown> {
  try {
    return await parsePartialJson(text, PUSH_FIELDS)
  } catch (error) {
    if (error instanceof JsonSyntaxError) throw notJson(text, what, error.position)
    throw error
  }
}

/**
 * Parses a webhook. `event` and `delivery` are the headers X-GitHub-Event and X-GitHub-Delivery.
 * @throws ConveyorError `invalid` naming the field of the payload that is missing or invalid
 */
export function parseWebhook(event: string, delivery: string, payload: unknown): Webhook {
  if (event === 'ping') return ignored('ping: pong')
  if (event !== 'push') return ignored(`event ${show(event)}: only pushes are built`)

  const push = asObject(payload, '')
  const ref = push.text('ref')
  const repository = push.object('repository')
  if (push.flag('deleted')) return ignored(`${show(ref)} was deleted: nothing to build`)
  if (repository.flag('fork')) return ignored('the repository is a fork: forks are never built')
  const parsed = checked('ref', ref, parseRef)
  if (!parsed) return ignored(`${show(ref)} is neither a branch nor a tag`)
  const head = push.objectOrNull('head_commit')
  if (!head) return ignored(`${show(ref)} has no head commit: nothing to build`)

  return {
    kind: 'build',
    request: {
      repository: checked('repository.full_name', repository.text('full_name'), validRepository),
      // Not `after`: for an annotated tag that is the id of the tag object.
      sha: checked('head_commit.id', head.text('id'), validSha),
      ref: parsed,
      defaultBranch: checked('repository.default_branch', repository.text('default_branch'), validRefName),
      ...(parsed.kind === 'branch' && treeOf(head)),
      ...factsOf(push, repository),
      commit: commitOf(push, head),
      cache: !head.text('message').includes(NO_CACHE),
      source: { kind: 'webhook', delivery: validDelivery(delivery) },
    },
  }
}

/**
 * Optional. Trusted only for branches: in GitHub's own example of a pushed tag, the tree is not that of the
 * commit.
 */
function treeOf(commit: Fields): { tree?: string } {
  const tree = commit.textOrNull('tree_id')
  return tree === null ? {} : { tree: checked('head_commit.tree_id', tree, validSha) }
}

/** For people to read: nothing of it but the message has to be there. */
function commitOf(push: Fields, head: Fields): CommitInfo {
  const author = head.anyObject('author')
  const login = author.anyText('username') ?? push.anyObject('sender').anyText('login')
  return commitInfo(head.text('message'), author.anyText('name'), login)
}

/** What orders the push among others. Without it, the order is decided by arrival, or by the git server. */
function factsOf(push: Fields, repository: Fields): { push?: PushFacts } {
  const before = push.textOrNull('before')
  const after = push.textOrNull('after')
  if (before === null || after === null) return {}
  const pushedAt = repository.secondsOrNull('pushed_at')
  return {
    push: { before: checked('before', before, validSha), after: checked('after', after, validSha), pushedAt },
  }
}

function ignored(reason: string): Webhook {
  return { kind: 'ignored', reason }
}

/** Reads fields of one JSON object by name; an error names the whole path, as in `repository.fork`. */
interface Fields {
  text(name: string): string
  /** Null also if the field is missing. */
  textOrNull(name: string): string | null
  flag(name: string): boolean
  /** Seconds since 1970, which GitHub sends as a number in pushes and as a date elsewhere. */
  secondsOrNull(name: string): number | null
  object(name: string): Fields
  objectOrNull(name: string): Fields | null
  /** Null unless it is a text that is not empty. */
  anyText(name: string): string | null
  /** Without fields unless it is an object. */
  anyObject(name: string): Fields
}

function asObject(value: unknown, path: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(path, value, 'an object')
  const pathOf = (name: string) => (path ? `${path}.${name}` : name)
  // Own properties only: a field must come from the payload, never from a prototype.
  const get = (name: string): unknown =>
    Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
  const text = (name: string) => {
    const field = get(name)
    if (typeof field !== 'string') throw wrong(pathOf(name), field, 'a string')
    return field
  }
  return {
    text,
    textOrNull: (name) => (get(name) == null ? null : text(name)),
    flag(name) {
      const field = get(name)
      if (typeof field !== 'boolean') throw wrong(pathOf(name), field, 'true or false')
      return field
    },
    secondsOrNull(name) {
      const field = get(name) ?? null
      const seconds = typeof field === 'string' ? Math.floor(Date.parse(field) / 1000) : field
      if (seconds === null) return null
      if (typeof seconds !== 'number' || !Number.isSafeInteger(seconds) || seconds < 0)
        throw wrong(pathOf(name), field, 'a time')
      return seconds
    },
    object: (name) => asObject(get(name), pathOf(name)),
    objectOrNull: (name) => (get(name) === null ? null : asObject(get(name), pathOf(name))),
    anyText(name) {
      const field = get(name)
      return typeof field === 'string' && field !== '' ? field : null
    },
    anyObject: (name) => asAnyObject(get(name)),
  }
}

/** Without fields unless it is an object. */
function asAnyObject(value: unknown): Fields {
  return asObject(typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}, '')
}

/** Runs a check of validate.ts on a field, and adds the field's path to its error. */
function checked<T>(path: string, value: string, check: (value: string) => T): T {
  try {
    return check(value)
  } catch (error) {
    if (!(error instanceof ConveyorError)) throw error
    throw new ConveyorError('invalid', `push payload: ${path}: ${error.message}`)
  }
}

function validDelivery(delivery: string): string {
  if (/^[\x21-\x7e]{1,200}$/.test(delivery)) return delivery
  throw new ConveyorError('invalid', `the header X-GitHub-Delivery is ${show(delivery)}, not a delivery id`)
}

function wrong(path: string, value: unknown, expected: string): ConveyorError {
  const where = path ? `push payload: ${path}` : 'push payload'
  return new ConveyorError(
    'invalid',
    value === undefined ? `${where} is missing` : `${where} is ${show(value)}, not ${expected}`,
  )
}

/** A value for a message: short, and on one line. */
function show(value: unknown): string {
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value !== 'string') return String(value)
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}...` : value)
}

/** The same memory as a Buffer. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** The decoded field `payload` of a form. URLSearchParams would also create objects for all other fields. */
function payloadField(form: string): string {
  const field = /(?:^|&)payload=/g
  if (!field.test(form)) throw new ConveyorError('invalid', 'the form has no field "payload"')
  const start = field.lastIndex
  if (field.test(form)) throw new ConveyorError('invalid', 'the form has more than one field "payload"')
  const end = form.indexOf('&', start)
  const encoded = form.slice(start, end === -1 ? undefined : end)
  try {
    return decodeURIComponent(encoded.replaceAll('+', ' '))
  } catch {
    throw new ConveyorError('invalid', 'the form field "payload" is not properly encoded')
  }
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw notJson(text, what, errorPosition(error instanceof Error ? error.message : '', text))
  }
}

function notJson(text: string, what: string, at: number): ConveyorError {
  const problem = at === text.length ? 'unexpected end' : 'syntax error'
  return new ConveyorError(
    'invalid',
    `${what} is not JSON: ${problem} at position ${at} of ${text.length} characters`,
  )
}

/** The position in V8's message; the rest of the message is dropped, because it may quote the body. */
function errorPosition(message: string, text: string): number {
  const named = / at position (\d+)(?: \(line \d+ column \d+\))?$/.exec(message)?.[1]
  if (named !== undefined) return Number(named)
  if (/^Unexpected end/.test(message)) return text.length
  return misplacedToken(text)
}

/**
 * The position of the first token where another JSON value is expected: the one error for which V8 reports no
 * position. Everything before it is well-formed.
 */
function misplacedToken(text: string): number {
  const token = /[ \t\r\n]*(true|false|null|[-\d][-+.\deE]*|["[\]{},:])/y
  let previous = ','
  let at = 0
  for (;;) {
    token.lastIndex = at
    const found = token.exec(text)?.[1]
    if (found === undefined) {
      const rest = text.slice(at).search(/[^ \t\r\n]/)
      return rest === -1 ? text.length : at + rest
    }
    at = token.lastIndex
    const valueDue = '[:,'.includes(previous) && previous + found !== '[]'
    if (valueDue && ']},:'.includes(found)) return at - 1
    if (found === '"') at = endOfString(text, at)
    previous = found
  }
}

/** The position after the closing quote of the string whose first character is at `start`. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start)
  for (; end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (text[end - 1 - backslashes] === '\\') backslashes++
    if (backslashes % 2 === 0) return end + 1
  }
  return text.length
}
