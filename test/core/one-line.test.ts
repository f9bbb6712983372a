import { describe, expect, test } from 'vitest'
import { Progress } from '../../src/lib/buildkit/progress.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { linesTo, oneLine } from '../../src/lib/core/one-line.ts'
import { asText } from '../../src/lib/server/formats.ts'
import { threadTime } from '../support/timing/thread-time.ts'

/** Texts with characters that end a line or change how it is displayed, and their replacements. */
const ODD: [string, string][] = [
  ['a\nb', 'a b'],
  ['a\r\n   b', 'a b'],
  ['a\rb', 'a b'],
  ['a\tb', 'a b'],
  ['a\0b', 'a b'],
  ['\u001b[2K\u001b[1Aok', '[2K [1Aok'],
  ['a\u009b31mb', 'a 31mb'],
  ['a\u0085b\u2028c\u2029d', 'a b c d'],
  ['a\u202etxt.exe', 'a txt.exe'],
  ['a\ud800b', 'a b'],
  [' two  spaces \n', 'two  spaces'],
  ['Grüße, 世界, 👩\u200d🚀', 'Grüße, 世界, 👩\u200d🚀'],
]

describe('oneLine', () => {
  test.each(ODD)('%j is quoted as %j', (text, quoted) => {
    expect(oneLine(text)).toBe(quoted)
  })

  test('a long text of only line breaks or spaces is fast', () => {
    const taken = threadTime()
    expect(oneLine('\n'.repeat(1 << 20))).toBe('')
    expect(oneLine(`a${' '.repeat(1 << 20)}b`)).toHaveLength((1 << 20) + 2)
    expect(taken()).toBeLessThan(1000)
  })

  test('an error has a message and a hint of one line each, of limited length', () => {
    const error = new ConveyorError('invalid', 'no file a\nb', { hint: 'Look at\u001b[2J it' })
    expect(error.advice).toBe('no file a b. Look at [2J it')
    expect(new ConveyorError('invalid', 'x'.repeat(1 << 20)).message).toHaveLength(4001)
  })

  test("in a build's log, each is one line", async () => {
    const written: unknown[] = []
    const say = linesTo({ write: async (text) => void written.push(text) })
    await say('', 'tags main\nsha256:1', 'image x')
    expect(written).toEqual(['\ntags main sha256:1\nimage x\n'])
  })
})

test('the name and the error of a step stay on the lines of that step', () => {
  const progress = new Progress()
  const at = new Date(0)
  const step = { digest: 'a', inputs: [], cached: false, started: at, completed: at }
  const vertex = { ...step, name: '[2/2] COPY . /x\nsha256:1234', error: 'no\nsuch\u001b[1Afile' }
  const pieces = [...progress.render({ vertexes: [vertex], statuses: [], logs: [], warnings: [] })]
  expect(Buffer.concat(pieces).toString()).toBe(
    '\n#1 [2/2] COPY . /x sha256:1234\n#1 ERROR: no such [1Afile\n',
  )
})

test('the last line of a streamed build is the error, whatever it quotes', async () => {
  const build = { state: 'failed', error: 'RUN x\nregistry.example/acme/web@sha256:12' }
  async function* happenings() {
    yield { kind: 'end', build, image: null }
  }
  let text = ''
  const source = happenings() as unknown as Parameters<typeof asText>[0]
  for await (const piece of asText(source, { result: true })) text += piece
  expect(text).toBe('error: RUN x registry.example/acme/web@sha256:12\n')
})
