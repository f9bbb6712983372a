import type { LogWriter } from './log-store.ts'

const MASK = Buffer.from('***')
/** Masking shorter secrets would turn half of every log into asterisks. */
const MIN_SECRET = 4
/** Shorter lines of a multi-line secret (`{`, `fi`) are not secret. */
const MIN_LINE = 8
/** Shorter base64 shows up by chance inside longer base64. */
const MIN_BASE64_PART = 8

/**
 * Masks secrets in texts and logs: each becomes `***`, whether as it is, in base64 (also within a longer encoded text,
 * such as the `user:password` of Basic authentication), URL-encoded or escaped as in JSON. Each line of a multi-line
 * secret is masked, too.
 *
 * A secret may arrive in pieces of any size. Only bytes that may be the start of a secret are held back for the next
 * piece; everything else passes at once, and chunks without a secret are not copied.
 */
export class Redactor {
  readonly #known = new Set<string>()
  readonly #forms = new Set<string>()
  /** The forms as bytes, by their first byte and by their first four bytes. */
  readonly #byFirst = new Map<number, Buffer[]>()
  readonly #byFirstFour = new Map<number, Buffer[]>()
  /** By the hash of four bytes, whether a form may start with them: rules out nearly all of a log quickly. */
  readonly #filter = new Uint8Array(1 << 16)
  #longest = 0

  /** Masks a secret from now on, also in open logs. Secrets under 4 bytes are ignored. */
  add(secret: string | Uint8Array): void {
    // One character for each byte: this works for any secret, and can be put in a Set.
    const text = Buffer.from(secret as Uint8Array).toString('latin1')
    if (this.#known.has(text)) return
    this.#known.add(text)
    for (const form of formsOf(text)) this.#addForm(form)
  }

  /** A writer that masks secrets in what it passes on to `writer`. */
  wrap(writer: LogWriter): LogWriter {
    const stream = new RedactedStream((data, final) => this.#scan(data, final))
    const flush = async () => {
      const rest = stream.flush()
      if (rest.length > 0) await writer.write(rest)
    }
    return {
      async write(chunk) {
        const clean = stream.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk)
        if (clean.length > 0) await writer.write(clean)
      },
      flush: () => flush().finally(() => writer.flush()),
      close: () => flush().finally(() => writer.close()),
      end: () => flush().finally(() => writer.end()),
    }
  }

  /** Masks secrets in a short text, such as an error message. */
  redact(text: string): string {
    const stream = new RedactedStream((data, final) => this.#scan(data, final))
    return Buffer.concat([stream.push(Buffer.from(text)), stream.flush()]).toString()
  }

  #addForm(form: string): void {
    if (this.#forms.has(form)) return
    this.#forms.add(form)
    const bytes = Buffer.from(form, 'latin1')
    const four = bytes.readInt32BE(0)
    this.#byFirst.set(bytes.readUInt8(0), [...(this.#byFirst.get(bytes.readUInt8(0)) ?? []), bytes])
    this.#byFirstFour.set(four, [...(this.#byFirstFour.get(four) ?? []), bytes])
    this.#filter[hash(four)] = 1
    this.#longest = Math.max(this.#longest, bytes.length)
  }

  #scan(data: Buffer, final: boolean): Scan {
    const found: Span[] = []
    let four = 0
    for (let i = 0; i < data.length; i++) {
      four = (four << 8) | (data[i] as number)
      if (i < 3 || this.#filter[hash(four)] === 0) continue
      const start = i - 3
      for (const form of this.#byFirstFour.get(four) ?? []) {
        const end = start + form.length
        if (end <= data.length && form.compare(data, start, end) === 0) found.push({ start, end })
      }
    }
    return { secrets: merge(found), held: final ? data.length : this.#beginningAt(data) }
  }

  /** The first position from which all bytes up to the end may be the start of a secret. */
  #beginningAt(data: Buffer): number {
    const last = data.at(-1)
    for (let at = Math.max(0, data.length - this.#longest + 1); at < data.length; at++) {
      const length = data.length - at
      for (const form of this.#byFirst.get(data[at] as number) ?? []) {
        // Compares the last byte first, as it rarely matches.
        if (form.length <= length || form[length - 1] !== last) continue
        if (form.compare(data, at, data.length, 0, length) === 0) return at
      }
    }
    return data.length
  }
}

/** Hashes four bytes to a number below 65,536. */
function hash(four: number): number {
  return Math.imul(four, 0x9e3779b1) >>> 16
}

/** Bytes from `start` up to, not including, `end`. */
interface Span {
  start: number
  end: number
}

interface Scan {
  /** Where secrets are, in order, without overlaps. */
  secrets: Span[]
  /** The position from which on a secret may have started that is not complete yet. */
  held: number
}

/** The state of one log: the bytes held back, and how many of them belong to a secret that is already masked. */
class RedactedStream {
  readonly #scan: (data: Buffer, final: boolean) => Scan
  #tail: Buffer = Buffer.alloc(0)
  #masked = 0

  constructor(scan: (data: Buffer, final: boolean) => Scan) {
    this.#scan = scan
  }

  push(chunk: Uint8Array): Uint8Array {
    const piece = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
    return this.#process(this.#tail.length > 0 ? Buffer.concat([this.#tail, piece]) : piece, false)
  }

  flush(): Uint8Array {
    return this.#process(this.#tail, true)
  }

  #process(data: Buffer, final: boolean): Uint8Array {
    const { secrets, held } = this.#scan(data, final)
    // The asterisks for these were written before.
    const resumed = this.#masked > 0
    const ranges = resumed ? merge([{ start: 0, end: this.#masked }, ...secrets]) : secrets
    const pieces: Buffer[] = []
    let at = 0
    for (const { start, end } of ranges) {
      const done = resumed && start === 0
      if (start >= held && !done) break
      if (start > at) pieces.push(data.subarray(at, start))
      if (!done) pieces.push(MASK)
      at = end
    }
    if (at < held) pieces.push(data.subarray(at, held))
    this.#masked = Math.max(0, at - held)
    this.#tail = Buffer.from(data.subarray(held))
    return pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces)
  }
}

/** Merges ranges that overlap, so that no end of two overlapping secrets stays visible. */
function merge(ranges: Span[]): Span[] {
  const merged: Span[] = []
  for (const range of ranges.sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1)
    if (last && range.start < last.end) last.end = Math.max(last.end, range.end)
    else merged.push({ ...range })
  }
  return merged
}

/** All forms of a secret in logs, as text with one character for each byte. */
function formsOf(secret: string): string[] {
  // A file with a secret ends with a newline, which its reader strips.
  const whole = secret.replace(/^[\r\n]+|[\r\n]+$/g, '')
  if (whole.length < MIN_SECRET) return []
  const lines = whole.split('\n').map((line) => line.trim())
  const forms = [whole, ...base64Forms(secret), ...base64Forms(whole), ...escapedForms(whole)]
  if (lines.length > 1) {
    // The first and last lines are the same in all PEM files.
    forms.push(...lines.filter((line) => line.length >= MIN_LINE && !line.startsWith('-----')))
  }
  return forms.filter((form) => form.length >= MIN_SECRET)
}

/**
 * The secret in base64, and for each of its three possible alignments within a longer base64 text, the digits that
 * depend on nothing but the secret.
 */
function base64Forms(secret: string): string[] {
  const bytes = Buffer.from(secret, 'latin1')
  const forms = [bytes.toString('base64').replace(/=+$/, '')]
  for (const shift of [0, 1, 2]) {
    const digits = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64')
    const part = digits.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6))
    if (part.length >= MIN_BASE64_PART) forms.push(part)
  }
  return [...forms, ...forms.map((form) => form.replaceAll('+', '-').replaceAll('/', '_'))]
}

function escapedForms(secret: string): string[] {
  const text = Buffer.from(secret, 'latin1').toString()
  const url = encodeURIComponent(text.toWellFormed())
  const strict = url.replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  const forms = [url, strict, strict.replaceAll('%20', '+')]
  const lower = forms.map((form) => form.replace(/%../g, (code) => code.toLowerCase()))
  const json = JSON.stringify(text).slice(1, -1)
  return [...forms, ...lower, Buffer.from(json).toString('latin1')]
}
