import { buildJson, type EndEventJson, type LogEventJson } from '../api/views.ts'
import { oneLine } from '../core/one-line.ts'
import type { Happening } from './logs/follow.ts'

/** Between the lines of a log, so that nobody in between takes a quiet connection for a dead one. */
export const STILL_RUNNING = '-- still running --'

/**
 * The log as plain text. With `result`, a last line follows that is the image, or `error: ...`.
 * A quiet time is marked with a line of its own, which is not part of the log: it counts in no offset.
 */
export async function* asText(
  happenings: AsyncIterable<Happening>,
  { result }: { result: boolean },
): AsyncGenerator<Uint8Array | string> {
  let atLineStart = true
  const line = (text: string) => {
    const whole = `${atLineStart ? '' : '\n'}${oneLine(text)}\n`
    atLineStart = true
    return whole
  }
  for await (const happening of happenings) {
    if (happening.kind === 'log' && happening.bytes.length > 0) {
      atLineStart = happening.bytes.at(-1) === 0x0a
      yield happening.bytes
    } else if (happening.kind === 'quiet') {
      yield line(STILL_RUNNING)
    } else if (happening.kind === 'notice') {
      yield line(happening.text)
    } else if (happening.kind === 'end' && result) {
      yield line(happening.image ?? `error: ${happening.build.error ?? `the build ${happening.build.state}`}`)
    }
  }
}

/**
 * Server-sent events: `build` (BuildJson) at each change of state, `log` (LogEventJson, its id being the
 * offset after the piece), `notice` ({message}), and `end` (EndEventJson) as the last.
 */
export async function* asEvents(
  happenings: AsyncIterable<Happening>,
  { baseUrl }: { baseUrl: string },
): AsyncGenerator<string> {
  for await (const happening of happenings) {
    switch (happening.kind) {
      case 'build':
        yield event('build', buildJson(happening.build, happening.image, baseUrl))
        break
      case 'log': {
        const { offset, bytes } = happening
        const data: LogEventJson = { offset, bytes: Buffer.from(bytes).toString('base64') }
        yield event('log', data, offset + bytes.length)
        break
      }
      case 'notice':
        yield event('notice', { message: happening.text })
        break
      case 'quiet':
        yield ': nothing new\n\n'
        break
      case 'end': {
        const { build, image } = happening
        const data: EndEventJson = {
          state: build.state,
          image,
          error: build.error,
          error_kind: build.errorKind,
        }
        yield event('end', data)
      }
    }
  }
}

/** JSON has no raw line breaks, so the data is always one line. */
function event(name: string, data: unknown, id?: number): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
}

export type Format = 'text' | 'json' | 'events'

const FORMATS: Record<string, Format> = {
  'text/plain': 'text',
  'text/*': 'text',
  '*/*': 'text',
  'application/json': 'json',
  'application/*': 'json',
  'text/event-stream': 'events',
}

/** What an `Accept` header likes best of our formats; text when it names none of them. */
export function preferredFormat(accept: string | undefined): Format {
  let best: Format = 'text'
  let bestQuality = 0
  for (const range of (accept ?? '').toLowerCase().split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim())
    const format = FORMATS[type]
    const given = parameters.find((parameter) => parameter.startsWith('q='))
    const quality = given === undefined ? 1 : Number(given.slice(2))
    if (format && quality > bestQuality) {
      best = format
      bestQuality = quality
    }
  }
  return best
}
