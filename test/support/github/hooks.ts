import { randomUUID } from 'node:crypto'
import { type Answer, invalid, problem } from './protocol.ts'
import { sendWebhook, webhookExamples } from './push.ts'
import type { GitHubSchema, Operation } from './schema.ts'
import type { Serve } from './serve.ts'

/** Webhooks of repositories and organizations, whose pings are really delivered. */

export interface TestHook {
  id: number
  /** `acme/web`, or `acme` for an organization. */
  place: string
  active: boolean
  events: string[]
  config: { url?: string; content_type?: string; secret?: string; insecure_ssl?: string }
}

interface TestDelivery {
  hook: number
  id: number
  event: string
  status_code: number
  duration: number
}

export class HooksDouble {
  readonly hooks: TestHook[] = []
  readonly #deliveries: TestDelivery[] = []
  #pings: Promise<void>[] = []

  /** Adds one, as somebody did by hand. */
  add(place: string, config: TestHook['config'], more: Partial<TestHook> = {}): TestHook {
    const hook = { id: 700 + this.hooks.length, place, active: true, events: ['push'], config, ...more }
    this.hooks.push(hook)
    return hook
  }

  routes(schema: GitHubSchema): [Operation, Serve][] {
    return ['/repos/{owner}/{repo}/hooks', '/orgs/{org}/hooks'].flatMap((at): [Operation, Serve][] => [
      [schema.operation('GET', at), this.#list],
      [schema.operation('POST', at), this.#create],
      [schema.operation('PATCH', `${at}/{hook_id}`), this.#update],
      [schema.operation('POST', `${at}/{hook_id}/pings`), this.#ping],
      [schema.operation('GET', `${at}/{hook_id}/deliveries`), this.#listDeliveries],
    ])
  }

  /** Resolves once every ping has been answered. */
  async idle(): Promise<void> {
    await Promise.all(this.#pings)
  }

  readonly #list: Serve = (about, _, example) => {
    const [page, size] = [Number(about.query.get('page') ?? 1), Number(about.query.get('per_page') ?? 30)]
    const found = this.hooks.filter((hook) => isAt(hook, about)).slice((page - 1) * size, page * size)
    const [model] = example(200) as unknown as Record<string, unknown>[]
    return { kind: 200, body: found.map((hook) => ({ ...model, ...shown(hook) })) }
  }

  readonly #create: Serve = (about, body, example) => {
    const { config, events = ['push'], active = true, name } = body as TestHook & { name?: string }
    if (about.params.org !== undefined && name !== 'web') return invalid('name must be web')
    if (!config?.url) return invalid('url is missing')
    const place = placeOf(about)
    if (this.hooks.some((hook) => isAt(hook, about) && hook.config.url === config.url)) {
      return invalid('Hook already exists on this repository')
    }
    const hook = this.add(place, config, { events, active })
    // GitHub pings new webhooks by itself.
    this.#pings.push(this.#deliver(hook))
    return { kind: 201, body: { ...example(201), ...shown(hook) } }
  }

  readonly #update: Serve = (about, body, example) => {
    const hook = this.#find(about)
    if (!hook) return problem(404, 'Not Found')
    const { config, events, active } = body as Partial<TestHook>
    // The whole configuration is replaced: without a secret, there is none any more.
    if (config) hook.config = config
    if (events) hook.events = events
    if (active !== undefined) hook.active = active
    return { kind: 200, body: { ...example(200), ...shown(hook) } }
  }

  readonly #ping: Serve = (about): Answer => {
    const hook = this.#find(about)
    if (!hook) return problem(404, 'Not Found')
    this.#pings.push(this.#deliver(hook))
    return { kind: 204 }
  }

  readonly #listDeliveries: Serve = (about, _, example) => {
    const hook = this.#find(about)
    if (!hook) return problem(404, 'Not Found')
    const [model] = example(200) as unknown as Record<string, unknown>[]
    const own = this.#deliveries.filter((one) => one.hook === hook.id).toReversed()
    const body = own.map(({ hook: _hook, ...facts }) => ({
      ...{ ...model, ...facts, status: facts.status_code === 200 ? 'OK' : 'Invalid HTTP Response' },
      ...{ guid: randomUUID(), action: null, delivered_at: new Date().toISOString() },
    }))
    return { kind: 200, body }
  }

  #find(about: Parameters<Serve>[0]): TestHook | undefined {
    return this.hooks.find((hook) => isAt(hook, about) && `${hook.id}` === about.params.hook_id)
  }

  async #deliver(hook: TestHook): Promise<void> {
    const [example] = (await webhookExamples()).find(({ name }) => name === 'ping')?.examples ?? []
    const { url = '', secret, content_type } = hook.config
    const started = performance.now()
    const answer = await sendWebhook({
      ...{ url, event: 'ping', payload: { ...example, hook_id: hook.id } },
      contentType: content_type === 'json' ? 'json' : 'form',
      ...(secret !== undefined && { secret }),
    }).catch(() => ({ status: 0 }))
    const duration = Math.round(performance.now() - started) / 1000
    const id = 12_000_000_000 + this.#deliveries.length
    this.#deliveries.push({ hook: hook.id, id, event: 'ping', status_code: answer.status, duration })
  }
}

function placeOf({ repository, params }: Parameters<Serve>[0]): string {
  return params.org ?? repository
}

function isAt({ place }: TestHook, about: Parameters<Serve>[0]): boolean {
  return place.toLowerCase() === placeOf(about).toLowerCase()
}

/** Nobody sees a secret again. */
function shown({ id, active, events, config }: TestHook): Record<string, unknown> {
  const { secret, ...rest } = config
  return { id, active, events, config: { ...rest, ...(secret !== undefined && { secret: '********' }) } }
}
