import type { Webhook } from '../../forge/forge.ts'
import { handleCheck } from './handlers/check.ts'
import type { Handled, Handler, HandlerContext } from './handlers/handler.ts'
import { handlePush } from './handlers/push.ts'

type Kind = Exclude<Webhook['kind'], 'ignored'>

const HANDLERS: { [K in Kind]: Handler<K> } = {
  build: handlePush,
  check: handleCheck,
}

/** Handles a webhook. @throws what its handler throws: it can be redelivered then */
export async function handleWebhook(webhook: Webhook, context: HandlerContext): Promise<Handled> {
  if (webhook.kind === 'ignored') return { ignored: webhook.reason }
  const handler = HANDLERS[webhook.kind] as Handler<Kind>
  return handler(webhook, context)
}
