import type { FastifyError, FastifyReply } from 'fastify'
import type { Problem } from '../api/problem.ts'
import { ConflictError, ConveyorError, type ErrorKind, KeyReusedError } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import { prefersHtml } from './accept.ts'
import { errorPage } from './pages/error-page.ts'
import { sendPage } from './pages/layout.ts'

/**
 * HTTP status and problem id of each kind of error. `unauthorized` is about Conveyor's own credentials at the
 * forge, not the caller's, hence not 401.
 */
const ANSWERS: Record<ErrorKind, { status: number; id: string }> = {
  invalid: { status: 400, id: 'invalid' },
  unauthorized: { status: 502, id: 'bad_gateway' },
  not_found: { status: 404, id: 'not_found' },
  build_failed: { status: 422, id: 'build_failed' },
  unavailable: { status: 503, id: 'unavailable' },
  timeout: { status: 504, id: 'timeout' },
  cancelled: { status: 503, id: 'cancelled' },
}

const KEY_REUSED = { status: 422, id: 'idempotency_key_reused' }
const CONFLICT = { status: 409, id: 'conflict' }

/** Problem ids for requests that Fastify rejects. */
const REJECTIONS: Record<number, string> = {
  400: 'invalid',
  413: 'too_large',
  414: 'invalid',
  415: 'unsupported_media_type',
}

/** As JSON, or as a page to a browser that wanted one. */
export function sendProblem(
  reply: FastifyReply,
  status: number,
  id: string,
  message: string,
  hint?: string,
  field?: string,
) {
  const problem: Problem = { id, message, ...(hint && { hint }), ...(field && { field }) }
  if (prefersHtml(reply.request.headers.accept)) {
    return sendPage(reply.code(status), reply.server.site(), errorPage(status, problem))
  }
  return reply.code(status).type('application/json; charset=utf-8').send(problem)
}

/** Responds with what was thrown. Only ConveyorErrors and Fastify's rejections tell the caller why. */
export function sendError(reply: FastifyReply, error: unknown): FastifyReply {
  if (error instanceof ConveyorError) {
    const { status, id } = answerTo(error)
    return sendProblem(reply, status, id, error.message, error.hint, error.field)
  }
  const rejection = rejectionStatus(error)
  if (rejection !== null) {
    return sendProblem(reply, rejection, REJECTIONS[rejection] ?? 'invalid', (error as FastifyError).message)
  }
  return sendProblem(reply, 500, 'internal', 'Internal error; see the log of the server')
}

function answerTo(error: ConveyorError): { status: number; id: string } {
  if (error instanceof KeyReusedError) return KEY_REUSED
  return error instanceof ConflictError ? CONFLICT : ANSWERS[error.kind]
}

/** The 4xx status with which Fastify rejects a request before our code runs; null for other errors. */
export function rejectionStatus(error: unknown): number | null {
  const { code, statusCode } = error as Partial<FastifyError>
  const rejected = code?.startsWith('FST_ERR_') && statusCode !== undefined && statusCode < 500
  return rejected ? statusCode : null
}

/** Whether an error is the server's fault and belongs in its log, rather than caused by the request. */
export function isServerError(error: unknown): boolean {
  if (error instanceof ConveyorError) return answerTo(error).status >= 500
  return rejectionStatus(error) === null
}

/** One line for the server's log, with a stack only for unexpected errors. Never request bodies or headers. */
export function describeError(error: unknown): string {
  if (error instanceof ConveyorError) return error.advice
  return oneLine(error instanceof Error ? (error.stack ?? error.message) : String(error))
}
