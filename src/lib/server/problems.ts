import type { FastifyError, FastifyReply } from 'fastify'
import type { Problem } from '../api/problem.ts'
import { ConveyorError, type ErrorKind } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'

/**
 * How a failed part of Conveyor looks over HTTP. `unauthorized` is about Conveyor's own credentials at the
 * forge, which are not the caller's fault, hence not 401.
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

/** The ids of what Fastify itself refuses. */
const REFUSALS: Record<number, string> = {
  400: 'invalid',
  413: 'too_large',
  414: 'invalid',
  415: 'unsupported_media_type',
}

export function sendProblem(reply: FastifyReply, status: number, id: string, message: string, hint?: string) {
  const problem: Problem = hint === undefined ? { id, message } : { id, message, hint }
  return reply.code(status).type('application/json; charset=utf-8').send(problem)
}

/** Answers with what was thrown; only ConveyorErrors and Fastify's own refusals tell the caller why. */
export function sendError(reply: FastifyReply, error: unknown): FastifyReply {
  if (error instanceof ConveyorError) {
    const { status, id } = ANSWERS[error.kind]
    return sendProblem(reply, status, id, error.message, error.hint)
  }
  const refusal = refusalStatus(error)
  if (refusal !== null) {
    return sendProblem(reply, refusal, REFUSALS[refusal] ?? 'invalid', (error as FastifyError).message)
  }
  return sendProblem(reply, 500, 'internal', 'Something went wrong inside Conveyor; its log says what')
}

/** The 4xx status with which Fastify refuses a request before any of our code saw it; null for the rest. */
export function refusalStatus(error: unknown): number | null {
  const { code, statusCode } = error as Partial<FastifyError>
  const refused = code?.startsWith('FST_ERR_') && statusCode !== undefined && statusCode < 500
  return refused ? statusCode : null
}

/** Whether an error belongs in the server's log: it is not about what the caller sent. */
export function isOurFault(error: unknown): boolean {
  if (error instanceof ConveyorError) return ANSWERS[error.kind].status >= 500
  return refusalStatus(error) === null
}

/** One line for the server's log; the stack only for what nobody expected. Never request bodies or headers. */
export function describeError(error: unknown): string {
  if (error instanceof ConveyorError) return error.advice
  return oneLine(error instanceof Error ? (error.stack ?? error.message) : String(error))
}
