import { expect, test } from 'vitest'
import type { LogWriter } from '../../src/lib/logs/log-store.ts'
import { Redactor } from '../../src/lib/logs/redact.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** A writer that records what reaches it. */
function sink() {
  const pieces: Uint8Array[] = []
  const calls: string[] = []
  const writer: LogWriter = {
    async write(chunk) {
      pieces.push(Buffer.from(chunk as Uint8Array))
    },
    async flush() {
      calls.push('flush')
    },
    async close() {
      calls.push('close')
    },
    async end() {
      calls.push('end')
    },
  }
  return { writer, pieces, calls, text: () => Buffer.concat(pieces).toString() }
}

function knowing(...secrets: (string | Uint8Array)[]): Redactor {
  const redactor = new Redactor()
  for (const secret of secrets) redactor.add(secret)
  return redactor
}

async function redact(redactor: Redactor, chunks: (string | Uint8Array)[]): Promise<string> {
  const { writer, text } = sink()
  const wrapped = redactor.wrap(writer)
  for (const chunk of chunks) await wrapped.write(chunk)
  await wrapped.end()
  return text()
}

/** Numbers that look random, but are the same in every run. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor((state / 2_147_483_648) * below)
  }
}

test.each([
  ['as it is', 'x hunter22! y', 'x *** y'],
  ['twice', 'hunter22!hunter22!', '******'],
  ['in base64', `x ${base64('hunter22!')} y`, 'x *** y'],
  ['URL-encoded', 'https://me:hunter22%21@x', 'https://me:***@x'],
  ['not at all', 'hunter22', 'hunter22'],
])('a secret %s', async (_, text, clean) => {
  const redactor = knowing('hunter22!')
  expect(await redact(redactor, [text])).toBe(clean)
  expect(redactor.redact(text)).toBe(clean)
})

test('base64 of a text that contains the secret', async () => {
  const redactor = knowing('hunter22-and-more')
  for (const before of ['', 'u', 'us', 'user', 'user:', 'x:y:z']) {
    for (const after of ['', '!', '!!', '!!!']) {
      const text = base64(`${before}hunter22-and-more${after}`)
      const clean = await redact(redactor, [`Authorization: Basic ${text}\n`])
      const left = clean.replace('Authorization: Basic ', '').replace('***', '').trim()
      expect(clean).toContain('***')
      // The rest is the text around it, and at most the secret's first and last letter.
      expect(left.length).toBeLessThanOrEqual(text.length - base64('hunter22-and-mo').length + 4)
    }
  }
})

test('a short secret in Basic authentication, when its user is known', async () => {
  const text = `Basic ${base64('me:hunt')}\n`
  expect(await redact(knowing('hunt', 'me:hunt'), [text])).not.toContain(base64('me:hunt').slice(0, 9))
})

test('other spellings: percent signs in either case, plus for space, JSON escapes, base64 for URLs', async () => {
  const secret = 'a/b c"d\\e(f)'
  const redactor = knowing(secret)
  const spellings = [
    'a%2Fb%20c%22d%5Ce(f)',
    'a%2Fb%20c%22d%5Ce%28f%29',
    'a%2fb+c%22d%5ce%28f%29',
    JSON.stringify(secret).slice(1, -1),
  ]
  for (const text of spellings) expect(await redact(redactor, [`<${text}>`])).toBe('<***>')

  const bytes = Buffer.from('fbfffefbfffefbfffe', 'hex')
  const both = `${bytes.toString('base64')} ${bytes.toString('base64url')}`
  expect(both).toMatch(/[+/].* .*[-_]/)
  expect(await redact(knowing(bytes), [both])).toBe('*** ***')
})

test('secrets shorter than 4 bytes are ignored', async () => {
  expect(await redact(knowing('abc', '', 'a\n', 'éa'), ['abc éa abc'])).toBe('abc éa abc')
  expect(await redact(knowing('abcd'), ['abcd'])).toBe('***')
})

test('bytes that are not text are unchanged, and can be secret', async () => {
  const { writer, pieces } = sink()
  const wrapped = knowing(Buffer.from([0xff, 0x00, 0x0a, 0xfe])).wrap(writer)
  await wrapped.write(Buffer.from([0x80, 0xff, 0x00, 0x0a, 0xfe, 0x81, 0xff]))
  await wrapped.end()
  expect(Buffer.concat(pieces)).toEqual(Buffer.from([0x80, 0x2a, 0x2a, 0x2a, 0x81, 0xff]))
})

test('a multi-line secret: the whole, and each line after a prefix', async () => {
  const key = [
    '-----BEGIN KEY-----',
    'MIIEpAIBAAKCAQEA',
    'q83vEjRWeJCrze8S',
    'NFZ4',
    '-----END KEY-----',
    '',
  ].join('\n')
  const redactor = knowing(key)
  expect(await redact(redactor, [`<${key.trim()}>`])).toBe('<***>')
  const prefixed = key.split('\n').map((line) => `#5 0.1 ${line}\n`)
  expect(await redact(redactor, prefixed)).toBe(
    '#5 0.1 -----BEGIN KEY-----\n#5 0.1 ***\n#5 0.1 ***\n#5 0.1 NFZ4\n#5 0.1 -----END KEY-----\n#5 0.1 \n',
  )
})

test('the newline at the end of a secret file does not matter', async () => {
  expect(await redact(knowing('hunter22\n'), ['x hunter22 y'])).toBe('x *** y')
  expect(await redact(knowing('hunter22\n'), [`x ${base64('hunter22\n')} y`])).toBe('x *** y')
})

test('of overlapping secrets, no end stays visible', async () => {
  const redactor = knowing('password1', 'word1234', 'password12')
  expect(await redact(redactor, ['a password1234 b password12 c word1234 d'])).toBe('a *** b *** c *** d')
})

test('lines pass at once; only what may be the start of a secret is held back', async () => {
  const { writer, pieces } = sink()
  const wrapped = knowing('hunter22').wrap(writer)
  const seen = () => pieces.splice(0).map(String)
  await wrapped.write('a line\n')
  expect(seen()).toEqual(['a line\n'])
  await wrapped.write('and hunt')
  expect(seen()).toEqual(['and '])
  await wrapped.write('ing\n')
  expect(seen()).toEqual(['hunting\n'])
  await wrapped.write('hunt')
  await wrapped.write('er2')
  expect(seen()).toEqual([])
  await wrapped.write('2.')
  expect(seen()).toEqual(['***.'])
})

test.each(['close', 'end'] as const)(
  '%s passes on the bytes held back, then the call itself',
  async (method) => {
    const { writer, calls, text } = sink()
    const wrapped = knowing('hunter22').wrap(writer)
    await wrapped.write('hunt')
    await wrapped[method]()
    expect(text()).toBe('hunt')
    expect(calls).toEqual([method])
  },
)

test('the writer is closed even when the last bytes cannot be written', async () => {
  const { writer, calls } = sink()
  const broken = { ...writer, write: () => Promise.reject(new Error('disk full')) }
  const wrapped = knowing('hunter22').wrap(broken)
  await wrapped.write('hunt')
  await expect(wrapped.end()).rejects.toThrow('disk full')
  expect(calls).toEqual(['end'])
})

test('a secret added while a log is written is masked from then on, in every log', async () => {
  const redactor = new Redactor()
  const [one, two] = [sink(), sink()]
  const [first, second] = [redactor.wrap(one.writer), redactor.wrap(two.writer)]
  await first.write('hunter22 hunt')
  redactor.add('hunter22')
  await first.write('er22 hunt')
  await first.write('er22\n')
  await second.write('hunter22\n')
  await Promise.all([first.end(), second.end()])
  expect([one.text(), two.text()]).toEqual(['hunter22 hunter22 ***\n', '***\n'])
})

test('the result does not depend on how the log was split into pieces', async () => {
  const secrets = ['abab', 'babaa', 'aaaa', 'cabbage', 'bage\nline two of it', 'ca\nb c\nd']
  const redactor = knowing(...secrets)
  const next = random(42)
  for (let round = 0; round < 300; round++) {
    let text = ''
    for (let i = 0; i < 40; i++) {
      text += next(4) === 0 ? secrets[next(secrets.length)] : 'abc\n e'[next(6)]
    }
    const whole = await redact(redactor, [text])
    for (const secret of secrets) expect(whole).not.toContain(secret)
    const cuts: string[] = []
    for (let at = 0; at < text.length; ) {
      const to = at + next(5)
      cuts.push(text.slice(at, to))
      at = to
    }
    expect(await redact(redactor, cuts)).toBe(whole)
  }
})

test('a chunk without a secret is passed on unchanged', async () => {
  let received: unknown
  const writer: LogWriter = {
    write: async (chunk) => {
      received = chunk
    },
    flush: async () => {},
    close: async () => {},
    end: async () => {},
  }
  const chunk = Buffer.from('a line that holds nothing of interest\n')
  await knowing('hunter22').wrap(writer).write(chunk)
  expect((received as Buffer).buffer).toBe(chunk.buffer)
  expect((received as Buffer).byteOffset).toBe(chunk.byteOffset)
})

test("of a run of one letter, no more than the secret's length is held back", async () => {
  const { writer, pieces, text } = sink()
  const wrapped = knowing('aaaa').wrap(writer)
  await wrapped.write('a'.repeat(1000))
  expect(pieces.map(String)).toEqual(['***'])
  for (let i = 0; i < 100; i++) await wrapped.write('aa')
  await wrapped.write('b')
  await wrapped.end()
  expect(text()).toBe('***b')
})
