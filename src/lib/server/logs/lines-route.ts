import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Build, isEnded } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { preferredFormat } from '../accept.ts'
import { findBuild } from '../lookup.ts'
import type { FollowParts } from './follow.ts'
import type { LineIndex, LineIndexes } from './line-index.ts'
import { liveRows } from './live-rows.ts'
import { flag, query } from './query.ts'
import { lineJson, readRows, rowRenderer } from './read-rows.ts'
import { searchLog } from './search.ts'
import { stepView } from './step-html.ts'
import type { Streams } from './streams.ts'

/** Most rows, and bytes of rows, in one response. */
const MAX_ROWS = 2000
const MAX_BYTES = 1024 * 1024
const MAX_HITS = 1000
const MAX_QUERY = 500

export interface LinesOptions {
  parts: FollowParts
  streams: Streams
  indexes: LineIndexes
  /** New contents of the head of a build's page. */
  head: (build: Build) => Promise<string>
}

/**
 * GET /logs/{id | owner/repo@sha}/lines: rows of a log as JSON, or from one row on as an event stream; and
 * GET /logs/{id | owner/repo@sha}/search.
 */
export async function linesRoute(app: FastifyInstance, options: LinesOptions): Promise<void> {
  const { parts, streams, indexes } = options

  const getLines = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    const index = indexes.of(build.id)
    if (preferredFormat(request.headers.accept, ['json', 'events']) === 'events') {
      // A browser that reconnects repeats the original URL, and sends its position in this header.
      const last = request.headers['last-event-id']
      const from = typeof last === 'string' ? rowNumber(last, 'Last-Event-ID', 1) : fromOf(request)
      await streams.send(reply, 'text/event-stream', (signal) =>
        liveRows(parts, build, index, { from, signal, head: options.head }),
      )
      return reply
    }
    return await linesNow(build, index, request)
  }

  /** The rows as they are now. */
  const linesNow = async (build: Build, index: LineIndex, request: FastifyRequest) => {
    const from = fromOf(request)
    const to = rowNumber(query(request, 'to'), 'to', from + MAX_ROWS - 1)
    if (to < from) throw new ConveyorError('invalid', 'to must not be smaller than from')
    await index.update()
    const ended = isEnded(build.state)
    const range = { from, to: Math.min(to, from + MAX_ROWS - 1), ended, maxBytes: MAX_BYTES }
    const rows = await readRows(parts.logs, build.id, index, range)
    const total = index.rows + (ended && index.isCut ? 1 : 0)
    const common = { from, next: from + rows.length, total, ended }
    return query(request, 'format') === 'html'
      ? { ...common, state: build.state, html: rowRenderer(index)(rows), steps: index.steps.map(stepView) }
      : { ...common, lines: rows.map((row) => lineJson(row, index)) }
  }

  const search = async (request: FastifyRequest, reply: FastifyReply) => {
    const build = await findBuild(parts.store, request)
    const text = query(request, 'q') ?? ''
    if (text === '' || Buffer.byteLength(text) > MAX_QUERY || /[\r\n]/.test(text)) {
      throw new ConveyorError('invalid', `q must be a text of 1 to ${MAX_QUERY} bytes, without line breaks`)
    }
    const from = fromOf(request)
    const gone = new AbortController()
    reply.raw.once('close', () => gone.abort())
    const index = indexes.of(build.id)
    const { rows, total } = await searchLog(parts.logs, build.id, {
      text,
      caseSensitive: flag(request, 'case', false),
      from: index.place(from),
      firstRow: from,
      limit: MAX_HITS,
      signal: gone.signal,
    }).catch((error: unknown) => {
      if (gone.signal.aborted) return { rows: [], total: 0 } // nobody reads it
      throw error
    })
    return { q: text, from, total, lines: rows }
  }

  const route = { config: { scope: 'read' } } as const
  app.get('/logs/:key/lines', { ...route, exposeHeadRoute: false }, getLines)
  app.get('/logs/:owner/:name/lines', { ...route, exposeHeadRoute: false }, getLines)
  app.get('/logs/:key/search', route, search)
  app.get('/logs/:owner/:name/search', route, search)
}

function fromOf(request: FastifyRequest): number {
  return rowNumber(query(request, 'from'), 'from', 1)
}

function rowNumber(text: string | undefined, name: string, absent: number): number {
  if (text === undefined || text === '') return absent
  if (!/^[1-9]\d{0,11}$/.test(text)) {
    throw new ConveyorError('invalid', `${name} must be the number of a line, 1 or greater`)
  }
  return Number(text)
}
