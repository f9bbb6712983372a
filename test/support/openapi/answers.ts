import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { OpenApi } from '../../../src/lib/server/api/openapi.ts'
import { DocumentSchemas } from './schemas.ts'

/** Bodies beyond this are streams of logs; only their beginning is checked. */
const LARGEST = 4 * 1024 * 1024

interface Media {
  schema: object
  'x-events'?: Record<string, object>
}
interface Operation {
  responses: Record<string, { content?: Record<string, Media> }>
}

interface SeenAnswer {
  status: number
  /** Without parameters; empty if there is none. */
  type: string
  body: string
  /** Whether the body is complete. */
  whole: boolean
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
      // Before the server rewrites it.
      const url = request.url ?? '/'
      const pieces: Buffer[] = []
      let size = 0
      const keep = (chunk: unknown, encoding: unknown) => {
        if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) return
        const name = typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8'
        const bytes = typeof chunk === 'string' ? Buffer.from(chunk, name) : Buffer.from(chunk)
        if (size < LARGEST) pieces.push(bytes)
        size += bytes.length
      }
      let type = ''
      const { write, end, writeHead } = response
      // Headers that are passed to it are in none of the fields of the response.
      response.writeHead = ((...values: Parameters<typeof writeHead>) => {
        const headers = values.find((value) => typeof value === 'object') ?? {}
        type = String((headers as Record<string, unknown>)['content-type'] ?? '')
        return writeHead.apply(response, values)
      }) as typeof writeHead
      response.write = ((...values: Parameters<typeof write>) => {
        keep(values[0], values[1])
        return write.apply(response, values)
      }) as typeof write
      response.end = ((...values: Parameters<typeof end>) => {
        keep(values[0], values[1])
        return end.apply(response, values)
      }) as typeof end
      response.once('close', () => {
        if (!response.headersSent) return
        const whole = response.writableFinished && size <= LARGEST
        const body = Buffer.concat(pieces).toString('utf8')
        type ||= String(response.getHeader('content-type') ?? '')
        const answer = { status: response.statusCode, type: type.split(';')[0] ?? '', body, whole }
        for (const problem of this.#check(request, url, answer)) {
          this.#violations.push(
            `${request.method} ${url.slice(0, 200)} -> ${response.statusCode}: ${problem}`,
          )
        }
      })
    })
  }

  #check(request: IncomingMessage, url: string, { status, type, body, whole }: SeenAnswer): string[] {
    const method = (request.method ?? '').toLowerCase()
    // The client was gone before it could be told.
    if (request.socket.destroyed && !request.complete && body === '') return []
    // A browser may be sent elsewhere from any path: to sign in, and back.
    const isBrowser = /\btext\/html\b/.test(request.headers.accept ?? '')
    if (isBrowser && status === 303) return body === '' ? [] : ['a body']
    const hook = method === 'post' && request.headers['x-github-event'] !== undefined
    const path = hook ? '/webhooks/github' : this.#path(url)
    const template = this.#template(path)
    const item = template === null ? undefined : this.#document.paths[template]
    const operation = item?.[method === 'head' ? 'get' : method] as Operation | undefined
    // Logs are not for HEAD.
    if (operation === undefined || (method === 'head' && status === 405)) {
      // Pages and the files that they load are for people. 404: there is no such path. 405: the path has other methods.
      if (type === 'text/html' || path.startsWith('/assets/')) return []
      const refused = [400, 401, 403, 404, 405, 414, 429].includes(status)
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
