import { createHmac, type Hmac, timingSafeEqual } from 'node:crypto'
import type { WebhookSignature } from '../../forge.ts'

/**
 * Verifies the header X-Hub-Signature-256 of a body that arrives in pieces.
 * (https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries)
 */
export class GitHubSignature implements WebhookSignature {
  readonly #hmac: Hmac
  readonly #usable: boolean

  constructor(secret: string) {
    this.#hmac = createHmac('sha256', secret)
    this.#usable = secret !== ''
  }

  update(piece: Uint8Array): void {
    this.#hmac.update(piece)
  }

  matches(signature256: string | undefined): boolean {
    const digest = this.#hmac.digest()
    if (typeof signature256 !== 'string' || !this.#usable) return false
    const hex = /^sha256=([0-9a-f]{64})$/.exec(signature256)?.[1]
    return hex !== undefined && timingSafeEqual(Buffer.from(hex, 'hex'), digest)
  }
}
