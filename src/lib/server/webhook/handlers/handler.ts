import type { Webhook } from '../../../forge/forge.ts'
import type { Accepted } from '../../../store/build-store.ts'
import type { ServerOptions } from '../../options.ts'

/** What a webhook led to: a build, something else, or nothing; the texts are for the forge's delivery log. */
export type Handled = Accepted | { done: string } | { ignored: string; quiet?: boolean }

export interface HandlerContext {
  /** Whether the webhook's signature was verified; without a secret, anyone can have sent it. */
  signed: boolean
  options: ServerOptions
}

/** Handles one kind of webhook. @throws ConveyorError: the delivery is answered with an error and can be redelivered */
export type Handler<Kind extends Webhook['kind']> = (
  webhook: Extract<Webhook, { kind: Kind }>,
  context: HandlerContext,
) => Promise<Handled>

/** Only pushes can be looked up at the forge if nobody signs them. */
export const UNSIGNED = {
  ignored: 'unsigned deliveries other than pushes are ignored: set a secret for the server and the webhook',
}
