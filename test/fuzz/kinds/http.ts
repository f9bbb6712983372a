import { randomBytes } from 'node:crypto'
import type { Chance } from '../generate/chance.ts'
import { ODD } from '../generate/mutate.ts'
import { WebhookBodies } from '../generate/webhook-bodies.ts'
import { excerpt, type Kind, type Subject, type Trial } from '../kind.ts'
import { ServerChild } from '../server-child.ts'
import { drawOrder } from './order.ts'

/** Correctly signed webhooks, and build requests, to a running server. A missing response is a failure. */
export const httpKind: Kind = {
  share: 3,
  least: 200,
  parsers: [],
  async open(): Promise<Subject> {
    const server = await ServerChild.start()
    // One accepts and builds pushes; the other only reads them.
    const bodies = [
      await WebhookBodies.of('acme/app'),
      ...(await Promise.all([1, 2, 3].map(() => WebhookBodies.of('fuzz/app')))),
    ]
    return {
      draw: (chance) =>
        chance.percent(75) ? webhookTrial(chance, server, chance.one(bodies)) : orderTrial(chance, server),
      async problem() {
        const [complaint] = server.complaints()
        return complaint ?? server.problem()
      },
      figures: () => server.figures(),
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    }
  },
}

/** It does not block other requests, and is rejected, ignored or accepted. */
function webhookTrial(chance: Chance, server: ServerChild, bodies: WebhookBodies): Trial {
  const input = bodies.draw(chance)
  // A new id, so that running the same input twice is not a redelivery.
  if (input.delivery.startsWith('fuzz-')) input.delivery = `fuzz-${randomBytes(8).toString('hex')}`
  const cutAt = chance.percent(5) ? chance.whole(0, input.body.length) : undefined
  const withOthers = input.body.length > 100_000 || chance.percent(2)
  return {
    shown: () => `${input.event} ${input.contentType} ${excerpt(input.body)}`,
    async run() {
      if (cutAt !== undefined)
        return void (await server.ask(
          'POST',
          '/',
          input.body,
          { 'x-github-event': 'push', 'x-hub-signature-256': 'x' },
          cutAt,
        ))
      const answering = server.webhook(input)
      let isAnswered = false
      const done = answering.finally(() => {
        isAnswered = true
      })
      const health = () => server.timed(() => server.ask('GET', '/healthz', null, {}))
      while (withOthers && !isAnswered)
        if ((await health()).status !== 200) throw new Error('/healthz reports a problem')
      const { status, body } = await done
      if (![200, 202, 400, 413].includes(status))
        throw new Error(`the server answered ${status}: ${body.slice(0, 300)}`)
    },
  }
}

function orderTrial(chance: Chance, server: ServerChild): Trial {
  const body = Buffer.from(drawOrder(chance).replace(/acme\//gi, 'other/'))
  const path = chance.percent(70)
    ? '/builds'
    : `/${chance.one(['builds', 'logs', 'artifacts'])}/${encodeURIComponent(chance.one(ODD).toWellFormed())}${chance.one(['', '@a', `/b@${'a'.repeat(40)}`, '/events', '%'])}`
  const method = path === '/builds' ? 'POST' : 'GET'
  const accept = chance.one([
    'application/json',
    'text/plain;q=x',
    '*/*',
    'application/json, ,;q=',
    ','.repeat(5000),
  ])
  return {
    shown: () => `${method} ${path} ${accept.slice(0, 50)} ${excerpt(body)}`,
    async run() {
      const { status, body: text } = await server.ask(method, path, method === 'POST' ? body : null, {
        accept,
      })
      // `/builds/..` is the index.
      const isIndex = status === 200 && new URL(path, 'http://x').pathname === '/'
      if (![400, 403, 404, 413, 431].includes(status) && !isIndex)
        throw new Error(`the server answered ${status}: ${text.slice(0, 300)}`)
    },
  }
}
