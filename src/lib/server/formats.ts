import type { EndEventJson, LogEventJson, NoticeEventJson } from '../api/build.ts'
import { buildJson } from '../api/views.ts'
import { oneLine } from '../core/one-line.ts'
import type { BuildEvent } from './logs/follow.ts'

/** Heartbeat line in a log, so that proxies do not close an idle connection. */
export const STILL_RUNNING = '-- still running --'

/**
 * The log as plain text. With `result`, the last line is the image, or `error: ...`.
 * Heartbeats are separate lines that are not part of the log and do not count in offsets.
 */
export async function* asText(
  events: AsyncIterable<BuildEvent>,
  { result }: { result: boolean },
): AsyncGenerator<Uint8Array | string> {
  let atLineStart = true
  const line = (text: string) => {
    const whole = `${atLineStart ? '' : '\n'}${oneLine(text)}\n`
    atLineStart = true
    return whole
  }
  for await (const event of events) {
    if (event.kind === 'log' && event.bytes.length > 0) {
      atLineStart = event.bytes.at(-1) === 0x0a
      yield event.bytes
    } else if (event.kind === 'heartbeat') {
      yield line(STILL_RUNNING)
    } else if (event.kind === 'notice') {
      yield line(event.text)
    } else if (event.kind === 'end' && result) {
      yield line(event.image ?? `error: ${event.build.error ?? `the build ${event.build.state}`}`)
    }
  }
}

/**
 * Server-sent events: `build` (BuildJson) on each change of state, `log` (LogEventJson, whose id is the
 * offset after its bytes), `notice` ({message}), and finally `end` (EndEventJson).
 */
export async function* asEvents(
  events: AsyncIterable<BuildEvent>,
  { baseUrl }: { baseUrl: string },
): AsyncGenerator<string> {
  for await (const event of events) {
    switch (event.kind) {
      case 'build':
        yield sseEvent('build', buildJson(event.build, event.image, baseUrl))
        break
      case 'log': {
        const { offset, bytes } = event
        const data: LogEventJson = { offset, bytes: Buffer.from(bytes).toString('base64') }
        yield sseEvent('log', data, offset + bytes.length)
        break
      }
      case 'notice':
        yield sseEvent('notice', { message: event.text } satisfies NoticeEventJson)
        break
      case 'heartbeat':
        yield ': nothing new\n\n'
        break
      case 'end': {
        const { build, image } = event
        const data: EndEventJson = {
          state: build.state,
          image,
          error: build.error,
          error_kind: build.errorKind,
        }
        yield sseEvent('end', data)
      }
    }
  }
}

/** JSON has no raw line breaks, so the data is always a single line. */
export function sseEvent(name: string, data: unknown, id?: number): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
}
