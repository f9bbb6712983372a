import type { FastifyInstance } from 'fastify'
import type { ServerOptions } from '../options.ts'
import { assetsRoute } from './assets.ts'
import { type BuildPageParts, buildPageRoutes } from './build/routes.ts'

/** Pages for people, and the files that these load. */
export async function pagesRoutes(
  app: FastifyInstance,
  options: ServerOptions & BuildPageParts,
): Promise<void> {
  await app.register(assetsRoute)
  await app.register(buildPageRoutes, options)
}
