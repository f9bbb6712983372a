import type { IncomingMessage } from 'node:http'
import type {} from '@fastify/swagger'
import { prefersHtml } from '../accept.ts'

/**
 * Routes with PAGE serve browsers: requests whose `Accept` prefers HTML. Routes of the same path without it serve
 * everybody else, and browsers where there is no page.
 */
export const PAGE = {
  constraints: { page: true },
  schema: { hide: true },
  config: { scope: 'read' },
} as const

/** How the router tells them apart. */
export const pageConstraint = {
  name: 'page',
  storage: () => new Map(),
  /** Undefined: the request takes the route without the constraint. */
  deriveConstraint: ({ headers }: IncomingMessage) => (prefersHtml(headers.accept) ? true : undefined),
}
