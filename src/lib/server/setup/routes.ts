import type { FastifyInstance } from 'fastify'
import { ConveyorError } from '../../core/errors.ts'
import type { ServerOptions } from '../options.ts'
import { sendPage } from '../pages/layout.ts'
import { PAGE } from '../pages/negotiation.ts'
import { setupDonePage, setupPage } from './pages.ts'
import { SetupStates } from './state.ts'

const ADMIN = { ...PAGE, config: { scope: 'admin', allRepositories: true } } as const

/** The pages on which an administrator makes a GitHub App: /setup, and where GitHub leads back to. */
export async function setupRoutes(app: FastifyInstance, options: ServerOptions): Promise<void> {
  const { setup, log, store } = options
  if (!setup) return
  let states: Promise<SetupStates> | undefined
  const opened = () => {
    states ??= store.secret('app setup').then((key) => new SetupStates(key))
    states.catch(() => {
      states = undefined
    })
    return states
  }

  app.get('/setup', ADMIN, async (request, reply) => {
    const organization = organizationOf((request.query as Record<string, unknown>).organization)
    const file = setup.existing()
    const form =
      setup.origin === null || file !== null
        ? null
        : setup.form(organization, (await opened()).create(request.identity.name))
    return sendPage(
      reply,
      app.site(),
      setupPage(app.site(), { organization, form, file, origin: setup.origin }),
    )
  })

  app.get('/setup/callback', ADMIN, async (request, reply) => {
    const { code, state } = request.query as Record<string, unknown>
    const who = request.identity.name
    const used = await opened()
    used.use(state, who)
    const made = await setup.complete(String(code))
    log(`${who} made the GitHub App ${made.name}: it is kept in ${made.file}`, { request: request.id })
    return sendPage(reply, app.site(), setupDonePage(made))
  })
}

/** Of the page's form; null for the user's own account. @throws ConveyorError `invalid` */
function organizationOf(value: unknown): string | null {
  if (value === undefined || value === '') return null
  if (typeof value === 'string' && /^[A-Za-z0-9][A-Za-z0-9-]{0,99}$/.test(value)) return value
  throw new ConveyorError('invalid', 'the organization is not the name of one on GitHub', {
    field: 'organization',
  })
}
