import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { OpenApi } from '../../../src/lib/server/api/openapi.ts'
import { type Answer, recordAnswer } from './answer.ts'
import { DocumentSchemas } from './schemas.ts'

interface Media {
  schema: object
  'x-events'?: Record<string, object>
}
interface Operation {
  responses: Record<string, { content?: Record<string, Media> }>
}

/**
 * Checks every response of a server against its own description: the status, the content type, and what JSON bodies and
 * events contain.
 */
export class AnswerCheck {
  readonly #violations: string[]
  readonly #document: OpenApi
  readonly #basePath: string
  readonly #schemas: DocumentSchemas

  /** @param violations receives what is wrong with responses */
  constructor(document: OpenApi, baseUrl: string, violations: string[]) {
    this.#violations = violations
    this.#document = document
    this.#basePath = new URL(baseUrl).pathname.replace(/\/+$/, '')
    this.#schemas = new DocumentSchemas(document)
  }

  /** Checks what the server responds from now on. Call before the server's own listener is called. */
  watch(server: Server): void {
    server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
      recordAnswer(request, response, (answer) => this.check(answer))
    })
  }

  check(answer: Answer): void {
    for (const problem of this.#problems(answer)) {
      this.#violations.push(`${answer.method} ${answer.url.slice(0, 200)} -> ${answer.status}: ${problem}`)
    }
  }

  #problems({ url, accept, isWebhook, cutOff, status, type, body, whole, ...answer }: Answer): string[] {
    const method = answer.method.toLowerCase()
    // It was gone before it could be told.
    if (cutOff && body === '') return []
    // A browser may be sent elsewhere from any path: to sign in, and back.
    if (/\btext\/html\b/.test(accept) && status === 303) return body === '' ? [] : ['a body']
    const path = isWebhook ? '/webhooks/github' : this.#path(url)
    const template = this.#template(path)
    const item = template === null ? undefined : this.#document.paths[template]
    const operation = item?.[method === 'head' ? 'get' : method] as Operation | undefined
    // Logs are not for HEAD.
    if (operation === undefined || (method === 'head' && status === 405)) {
      // Pages and the files that they load are for people. 404: there is no such path. 405: the path has other methods.
      if (type === 'text/html' || path.startsWith('/assets/')) return []
      const refused = [400, 401, 403, 404, 405, 414, 429, 503].includes(status)
      if (refused) return this.#validate({ $ref: '#/components/schemas/Problem' }, body, method)
      return [`${path} is not in the description`]
    }
    const documented = operation.responses[status]
    if (documented === undefined) return ['undocumented status']
    // They have no body, and are documented without one.
    if (status === 303 || status === 304) return body === '' ? [] : ['a body']
    const media = documented.content?.[type]
    if (media === undefined) return [`undocumented content type ${JSON.stringify(type)}`]
    if (type === 'application/json') return whole ? this.#validate(media.schema, body, method) : []
    return media['x-events'] ? this.#events(media['x-events'], body) : []
  }

  #events(documented: Record<string, object>, body: string): string[] {
    return body
      .split('\n\n')
      .slice(0, -1)
      .flatMap((block) => {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1]
        const name = field('event')
        if (block.startsWith(':')) return []
        const schema = documented[name ?? '']
        return schema ? this.#validate(schema, field('data') ?? '', 'get') : [`undocumented event ${name}`]
      })
  }

  #validate(schema: object, body: string, method: string): string[] {
    if (method === 'head') return []
    let value: unknown
    try {
      value = JSON.parse(body)
    } catch {
      return [`not JSON: ${body.slice(0, 100)}`]
    }
    const problems = this.#schemas.problems(schema, value)
    return problems === null ? [] : [`${problems} in ${body.slice(0, 300)}`]
  }

  /** Without the path of the base URL. */
  #path(url: string): string {
    const path = (url.split(/[?#;]/)[0] ?? '') || '/'
    const inside = path === this.#basePath || path.startsWith(`${this.#basePath}/`)
    return (inside ? path.slice(this.#basePath.length) : path) || '/'
  }

  /** The documented path that matches, with the most literal segments. */
  #template(path: string): string | null {
    const segments = path.split('/')
    const matches = Object.keys(this.#document.paths).filter((template) => {
      const wanted = template.split('/')
      return (
        wanted.length === segments.length &&
        wanted.every((part, i) => part === segments[i] || (part.startsWith('{') && segments[i] !== ''))
      )
    })
    const literals = (template: string) => template.split('/').filter((part) => !part.startsWith('{')).length
    return matches.sort((a, b) => literals(b) - literals(a))[0] ?? null
  }
}
