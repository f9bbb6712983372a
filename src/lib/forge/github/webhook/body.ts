import { isUtf8 } from 'node:buffer'
import { ConveyorError } from '../../../core/errors.ts'
import { Pace } from '../../../util/pace.ts'
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
  const bytes = typeof rawBody === 'string' ? Buffer.from(rawBody) : bufferOf(rawBody)
  if (!isUtf8(bytes)) throw new ConveyorError('invalid', 'the body is not valid UTF-8')
  const isForm = type !== 'application/json'
  const [json, what] = isForm
    ? [await payloadField(bytes), 'the form field "payload"']
    : [bytes.toString('utf8'), 'the body']
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

const FIELD = 'payload='

/** The decoded field `payload` of a form. URLSearchParams would also create objects for all other fields. */
async function payloadField(form: Buffer): Promise<string> {
  const isFirst = form.subarray(0, FIELD.length).equals(Buffer.from(FIELD))
  const start = isFirst ? FIELD.length : fieldAfter(form, 0)
  if (start === -1) throw new ConveyorError('invalid', 'the form has no field "payload"')
  if (fieldAfter(form, start) !== -1) {
    throw new ConveyorError('invalid', 'the form has more than one field "payload"')
  }
  const end = form.indexOf('&', start)
  const decoded = await formDecoded(form.subarray(start, end === -1 ? undefined : end))
  if (decoded !== null && isUtf8(decoded)) return decoded.toString('utf8')
  throw new ConveyorError('invalid', 'the form field "payload" is not properly encoded')
}

/** Where the value of the next field `payload` begins that is not the form's first field, or -1. */
function fieldAfter(form: Buffer, from: number): number {
  const separator = form.indexOf(`&${FIELD}`, from)
  return separator === -1 ? -1 : separator + 1 + FIELD.length
}

/** Characters that are decoded before the event loop may have its turn. */
const DECODED_AT_ONCE = 256 * 1024
const PLUS = 0x2b
const PERCENT = 0x25
const SPACE = 0x20

/**
 * Decodes `%41` and `+`, byte by byte: `replaceAll` makes an object of each `+`, a gigabyte of a form's 25 MB.
 * @returns null if a percent sign is not followed by two hexadecimal digits
 */
async function formDecoded(encoded: Buffer): Promise<Buffer | null> {
  const decoded = Buffer.allocUnsafe(encoded.length)
  const pace = new Pace()
  let length = 0
  for (let at = 0; at < encoded.length; at++) {
    if (length % DECODED_AT_ONCE === 0 && pace.isDue) await pace.rest()
    const byte = encoded[at] ?? 0
    if (byte !== PERCENT) {
      decoded[length++] = byte === PLUS ? SPACE : byte
      continue
    }
    const high = hexDigit(encoded[at + 1])
    const low = hexDigit(encoded[at + 2])
    if (high === -1 || low === -1) return null
    decoded[length++] = high * 16 + low
    at += 2
  }
  return decoded.subarray(0, length)
}

/** The value of an ASCII hexadecimal digit; -1 for anything else. */
function hexDigit(code = 0): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30
  const letter = code | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
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
