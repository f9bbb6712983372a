import type { TSchema } from 'typebox'
import { Problem } from '../../api/problem.ts'
import { Type } from '../../api/type.ts'

/** One documented response of a route, in the form that Fastify takes in `schema.response`. */
export interface AnswerDoc {
  description: string
  content?: Record<string, { schema: TSchema; [extension: `x-${string}`]: unknown }>
  headers?: Record<string, object>
}

/** Why a route may refuse a request. */
const REASONS: Record<number, string> = {
  400: 'The request is invalid',
  403: 'Not allowed: the message and the hint say why',
  404: 'There is no such thing',
  409: 'Not possible in the present state',
  413: 'The body is too large',
  414: 'The URL is too long',
  422: 'The request cannot be fulfilled',
  502: 'Conveyor cannot authenticate with a service that it needs',
  503: 'A service that Conveyor needs is not available',
  504: 'A service that Conveyor needs did not answer in time',
}

/**
 * The responses of a route, for the documentation: those that it names, and those that all routes have. Routes are typed
 * by the code that makes a response, and the tests validate every response.
 * @param statuses statuses of error responses, besides 400, 401, 403, 414, 429, 500 and 503
 */
export function answers(
  documented: Record<number, AnswerDoc>,
  ...statuses: number[]
): Record<number, AnswerDoc> {
  const all: Record<number, AnswerDoc> = {}
  for (const status of [400, 403, 414, 503, ...statuses]) all[status] = problem(REASONS[status] ?? 'Error')
  return {
    ...all,
    401: {
      ...problem('Credentials are missing or wrong'),
      headers: { 'www-authenticate': { type: 'string', description: 'How to authenticate' } },
    },
    429: {
      ...problem('Too many failed logins from this address, or streams at the same time'),
      headers: { 'retry-after': { type: 'string', description: 'Seconds to wait' } },
    },
    500: problem('An error in Conveyor; its log says more'),
    ...documented,
  }
}

/** The same for a route that needs no credentials. */
export function publicAnswers(
  documented: Record<number, AnswerDoc>,
  ...statuses: number[]
): Record<number, AnswerDoc> {
  const all: Record<number, AnswerDoc> = {}
  for (const status of [414, 500, 503, ...statuses]) all[status] = problem(REASONS[status] ?? 'Error')
  return { ...all, ...documented }
}

/** Headers of a response about one build. */
export const LOCATION = { location: { type: 'string', description: 'URL of the build' } }

/** A JSON response. */
export function json(description: string, schema: TSchema): AnswerDoc {
  return { description, content: { 'application/json': { schema } } }
}

/** A response in one of several formats, which the Accept header chooses. */
export function oneOf(description: string, ...forms: AnswerDoc[]): AnswerDoc {
  return { description, content: Object.assign({}, ...forms.map(({ content }) => content)) }
}

/** Plain text, possibly sent while it is written. */
export function text(description: string): AnswerDoc {
  return { description, content: { 'text/plain': { schema: Type.String({ description }) } } }
}

/** Server-sent events: their names, and the schemas of their data. */
export function events(description: string, schemas: Record<string, TSchema>): AnswerDoc {
  return {
    description,
    content: { 'text/event-stream': { schema: Type.String({ description }), 'x-events': schemas } },
  }
}

/** A page, for browsers. */
export function page(description: string): AnswerDoc {
  return { description, content: { 'text/html': { schema: Type.String({ description }) } } }
}

/** An error response. */
function problem(description: string): AnswerDoc {
  return oneOf(description, json('', Problem), page('The same, for browsers'))
}
