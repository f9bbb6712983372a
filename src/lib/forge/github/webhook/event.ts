import type { Webhook } from '../../forge.ts'
import type { Fields } from './fields.ts'
import type { FieldSelection } from './partial-json.ts'

/** How the payloads of one event are read. */
export interface WebhookEvent {
  /** Every field that `parse` reads: long payloads contain no others. */
  fields: FieldSelection
  /**
   * @param delivery the header X-GitHub-Delivery
   * @throws ConveyorError `invalid` naming the field of the payload that is missing or invalid
   */
  parse(payload: Fields, delivery: string): Webhook
}

export function ignored(reason: string): Webhook {
  return { kind: 'ignored', reason }
}
