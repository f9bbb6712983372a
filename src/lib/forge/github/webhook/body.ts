import { isUtf8 } from 'node:buffer'
import { ConveyorError } from '../../../core/errors.ts'
import { show } from './fields.ts'
import { type FieldSelection, JsonSyntaxError, parsePartialJson } from './partial-json.ts'

/**
 * The payload in a webhook's body: JSON, or a form with JSON in its field `payload`. Long payloads contain only
 * the selected fields.
 * @throws ConveyorError `invalid` with the position of the error, without quoting the body
 */
export async function bodyJson(
  contentType: string | undefined,
  rawBody: Uint8Array | string,
  selection: FieldSelection,
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
  return json.length > MAX_PARSED_AT_ONCE ? pick(json, what, selection) : parseJson(json, what)
}

/** Longer texts are parsed in pieces; JSON.parse takes at most some milliseconds for this one. */
const MAX_PARSED_AT_ONCE = 256 * 1024

async function pick(text: string, what: string, selection: FieldSelection): Promise<unknown> {
  try {
    return await parsePartialJson(text, selection)
  } catch (error) {
    if (error instanceof JsonSyntaxError) throw notJson(text, what, error.position)
    throw error
  }
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
