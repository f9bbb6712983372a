import type { Webhook } from '../../forge/forge.ts'
import { handleCheck } from './handlers/check.ts'
import { handleCommand } from './handlers/command.ts'
import type { Handled, Handler, HandlerContext } from './handlers/handler.ts'
import { handleMergeGroup } from './handlers/merge-group.ts'
import { handlePull } from './handlers/pull-request.ts'
import { handlePush } from './handlers/push.ts'

type Kind = Exclude<Webhook['kind'], 'ignored'>

const HANDLERS: { [K in Kind]: Handler<K> } = {
  build: handlePush,
  check: handleCheck,
  pull: handlePull,
  merge_group: handleMergeGroup,
  command: handleCommand,
}

/** Handles a webhook. @throws what its handler throws: it can be redelivered then */
export async function handleWebhook(webhook: Webhook, context: HandlerContext): Promise<Handled> {
  if (webhook.kind === 'ignored') {
    const { reason, quiet } = webhook
    return { ignored: reason, ...(quiet && { quiet }) }
  }
  const handler = HANDLERS[webhook.kind] as Handler<Kind>
  return handler(webhook, context)
}
