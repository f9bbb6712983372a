import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Build, isEnded } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { SendBuild } from '../builds-routes.ts'
import { asEvents, asText } from '../formats.ts'
import { findBuild } from '../lookup.ts'
import type { ServerOptions } from '../options.ts'
import { type BuildEvent, type FollowParts, follow } from './follow.ts'
import { flag, query } from './query.ts'
import type { Streams } from './streams.ts'

export const TEXT = 'text/plain; charset=utf-8'
const EVENTS = 'text/event-stream'

/** GET /logs/{id | owner/repo@sha} as text, GET /builds/{id | owner/repo@sha}/events as an event stream. */
export async function logsRoute(
  app: FastifyInstance,
  options: ServerOptions & { streams: Streams; parts: FollowParts },
): Promise<void> {
  const { parts, streams } = options

  const getLog = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    const offset = parseOffset(query(request, 'offset'), 'offset')
    const live = flag(request, 'follow', true)
    const events = (signal: AbortSignal) =>
      live ? follow(parts, build, { offset, signal }) : logNow(parts, build, { offset, signal })
    await streams.send(reply, TEXT, (signal) => asText(events(signal), { result: false }))
    return reply
  }
  const getEvents = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    // A browser that reconnects repeats the original URL, and sends its position in this header.
    const last = request.headers['last-event-id']
    const offset =
      typeof last === 'string'
        ? parseOffset(last, 'Last-Event-ID')
        : parseOffset(query(request, 'offset'), 'offset')
    await streams.send(reply, EVENTS, (signal) =>
      asEvents(follow(parts, build, { offset, signal }), { baseUrl: options.baseUrl() }),
    )
    return reply
  }

  const stream = { exposeHeadRoute: false, config: { scope: 'read' } } as const
  app.get('/logs/:key', stream, getLog)
  app.get('/logs/:owner/:name', stream, getLog)
  app.get('/builds/:key/events', stream, getEvents)
  app.get('/builds/:owner/:name/events', stream, getEvents)
}

/** Makes the function that streams a build: as text, its log from the start and its result; or all of its events. */
export function buildSender(options: ServerOptions, streams: Streams, parts: FollowParts): SendBuild {
  return (reply, format, source) => {
    const events = (signal: AbortSignal) =>
      'id' in source ? follow(parts, source, { offset: 0, signal }) : source
    return format === 'text'
      ? streams.send(reply, TEXT, (signal) => asText(events(signal), { result: true }))
      : streams.send(reply, EVENTS, (signal) => asEvents(events(signal), { baseUrl: options.baseUrl() }))
  }
}

/** The log so far. */
async function* logNow(
  { logs }: FollowParts,
  build: Build,
  { offset: start, signal }: { offset: number; signal: AbortSignal },
): AsyncGenerator<BuildEvent> {
  let offset = start
  for await (const bytes of logs.read(build.id, { offset, follow: false, signal })) {
    yield { kind: 'log', offset, bytes }
    offset += bytes.length
  }
  if (offset === 0 && isEnded(build.state)) yield { kind: 'notice', text: 'This build has no stored log' }
}

function parseOffset(text: string | undefined, name: string): number {
  if (text === undefined || text === '') return 0
  if (!/^\d{1,15}$/.test(text)) {
    throw new ConveyorError('invalid', `${name} must be a byte offset, 0 or greater`)
  }
  return Number(text)
}
