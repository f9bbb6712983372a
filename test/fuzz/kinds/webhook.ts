import { deepEqual } from 'node:assert/strict'
import { JsonSyntaxError, parsePartialJson } from '../../../src/lib/forge/github/webhook/partial-json.ts'
import { GitHubSignature } from '../../../src/lib/forge/github/webhook/signature.ts'
import { githubWebhooks, parseWebhook, webhookBody } from '../../../src/lib/forge/github/webhook/webhook.ts'
import { WebhookBodies } from '../generate/webhook-bodies.ts'
import { excerpt, type Kind, mayRefuse } from '../kind.ts'

/** Bodies of webhooks. */
export const webhookKind: Kind = {
  share: 8,
  least: 2000,
  parsers: ['forge/github/webhook', 'core/validate.ts'],
  async open() {
    const bodies = await WebhookBodies.of('acme/app')
    return {
      draw(chance) {
        const { event, delivery, contentType, body } = bodies.draw(chance)
        const signature = chance.one(['sha256=', `sha256=${'0'.repeat(64)}`, undefined])
        return {
          shown: () => `${event} ${contentType} ${excerpt(body)}`,
          async run() {
            const hash = new GitHubSignature(chance.one(['', 'secret']))
            hash.update(body)
            if (hash.matches(signature)) throw new Error('accepted a forged signature')
            await mayRefuse(async () => {
              const payload = await webhookBody(event, contentType, body)
              githubWebhooks.about(payload)
              parseWebhook(event, delivery, payload)
            })
            if (body.length < 1 << 16) await comparePicked(body.toString())
          },
        }
      },
      async [Symbol.asyncDispose]() {},
    }
  },
}

const WANTED = { ref: true, deleted: true, repository: { full_name: true, fork: true } } as const

/** Picked values equal those of JSON.parse, and nothing is picked from invalid JSON. */
async function comparePicked(text: string): Promise<void> {
  const parsed = await tried(() => JSON.parse(text) as unknown)
  const picked = await tried(() => parsePartialJson(text, WANTED))
  deepEqual(picked, 'value' in parsed ? { value: only(parsed.value, WANTED) } : {})
}

async function tried(read: () => unknown): Promise<{ value?: unknown }> {
  try {
    return { value: await read() }
  } catch (error) {
    if (error instanceof JsonSyntaxError || error instanceof SyntaxError) return {}
    throw error
  }
}

function only(value: unknown, wanted: object): unknown {
  if (Array.isArray(value)) return []
  if (typeof value !== 'object' || value === null) return value
  const fields = Object.entries(value).filter(([name]) => Object.hasOwn(wanted, name))
  return Object.fromEntries(
    fields.map(([name, one]) => [name, only(one, (wanted as Record<string, object>)[name] ?? {})]),
  )
}
