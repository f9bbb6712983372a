import type { FastifyInstance } from 'fastify'
import type { ServerOptions } from '../options.ts'
import { assetsRoute } from './assets.ts'

/** Pages for people, and the files that these load. */
export async function pagesRoutes(app: FastifyInstance, _options: ServerOptions): Promise<void> {
  await app.register(assetsRoute)
}
