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

/** @param options.quiet it happens all the time, and nobody wonders why nothing was built */
export function ignored(reason: string, { quiet = false } = {}): Webhook {
  return { kind: 'ignored', reason, ...(quiet && { quiet }) }
}
