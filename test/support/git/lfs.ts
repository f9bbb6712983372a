import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'
import { Ajv } from 'ajv'

/**
 * Requests as git-lfs publishes them: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md, here without
 * anything that it does not name.
 */
const BATCH_REQUEST = {
  type: 'object',
  properties: {
    operation: { const: 'download' },
    transfers: { type: 'array', items: { type: 'string' }, contains: { const: 'basic' } },
    ref: {
      type: 'object',
      properties: { name: { type: 'string' } },
      required: ['name'],
      additionalProperties: false,
    },
    objects: {
      type: 'array',
      minItems: 1,
      maxItems: 100,
      uniqueItems: true,
      items: {
        type: 'object',
        properties: {
          oid: { type: 'string', pattern: '^[0-9a-f]{64}$' },
          size: { type: 'integer', minimum: 0 },
        },
        required: ['oid', 'size'],
        additionalProperties: false,
      },
    },
    hash_algo: { const: 'sha256' },
  },
  required: ['operation', 'objects'],
  additionalProperties: false,
}
const TYPE = 'application/vnd.git-lfs+json'

/** A request for objects, to the LFS server of a repository. */
interface RecordedBatch {
  repository: string
  body: { objects: { oid: string; size: number }[] } & Record<string, unknown>
  authorization: string | null
}

/** A download, from a server of its own. */
interface RecordedDownload {
  oid: string
  authorization: string | null
}

/** Git LFS of a git server: its batch API at `owner/name.git/info/lfs`, and a server with the objects, like S3. */
export interface LfsDouble extends AsyncDisposable {
  readonly batches: RecordedBatch[]
  readonly downloads: RecordedDownload[]
  /** Requests that are not those of the published API. */
  readonly violations: string[]
  /** Most downloads at the same time. */
  readonly atOnce: number
  /** Adds an object to a repository; returns its pointer. */
  put(repository: string, content: string | Uint8Array): string
  /** Has other bytes sent for an object from now on. */
  corrupt(pointer: string, content: string | Uint8Array): void
  /** Answers the next downloads (`objects`) or batches with these statuses. */
  failNext(what: 'objects' | 'batches', ...statuses: number[]): void
  /** Redirects the downloads of an object. */
  redirect(pointer: string, to: string): void
  /** What the API adds to the description of each download. */
  action: Record<string, unknown>
  handle(repository: string, path: string, request: IncomingMessage, response: ServerResponse): Promise<void>
}

/** The pointer of an object, which is what is committed. */
export function pointerTo(content: string | Uint8Array): string {
  const oid = createHash('sha256').update(content).digest('hex')
  return `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${Buffer.byteLength(content)}\n`
}

export function oidIn(pointer: string): string {
  return /^oid sha256:(.*)$/m.exec(pointer)?.[1] ?? ''
}

export async function startLfsDouble(): Promise<LfsDouble> {
  const isBatch = new Ajv({ allErrors: true }).compile(BATCH_REQUEST)
  const objects = new Map<string, Buffer>()
  const owners = new Set<string>()
  const redirects = new Map<string, string>()
  const failures = { objects: [] as number[], batches: [] as number[] }
  /** Addresses are given out for one download each. */
  const tickets = new Map<string, string>()
  let running = 0
  let atOnce = 0

  const storage = createServer((request, response) => void serve(request, response))
  await once(storage.listen(0, '127.0.0.1'), 'listening')
  const url = `http://127.0.0.1:${(storage.address() as AddressInfo).port}`

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const ticket = (request.url ?? '').slice(1)
    const oid = tickets.get(ticket) ?? ''
    atOnce = Math.max(atOnce, ++running)
    response.once('close', () => running--)
    double.downloads.push({ oid, authorization: request.headers.authorization ?? null })
    await new Promise((resolve) => setTimeout(resolve, 5))
    const status = failures.objects.shift()
    if (status !== undefined) return void response.writeHead(status).end()
    const to = redirects.get(oid)
    if (to !== undefined) return void response.writeHead(302, { location: to }).end()
    if (!tickets.delete(ticket) || request.headers['x-ticket'] !== ticket)
      return void response.writeHead(403).end()
    response.end(objects.get(oid))
  }

  const double: LfsDouble = {
    batches: [],
    downloads: [],
    violations: [],
    action: {},
    get atOnce() {
      return atOnce
    },
    put(repository, content) {
      const pointer = pointerTo(content)
      objects.set(oidIn(pointer), Buffer.from(content))
      owners.add(`${repository} ${oidIn(pointer)}`)
      return pointer
    },
    corrupt: (pointer, content) => void objects.set(oidIn(pointer), Buffer.from(content)),
    failNext: (what, ...statuses) => void failures[what].push(...statuses),
    redirect: (pointer, to) => void redirects.set(oidIn(pointer), to),
    async handle(repository, path, request, response) {
      const answer = (status: number, body: unknown) =>
        void response.writeHead(status, { 'content-type': TYPE }).end(JSON.stringify(body))
      if (path !== '/objects/batch' || request.method !== 'POST') return answer(404, { message: 'Not found' })
      const body = (await json(request)) as RecordedBatch['body']
      const { accept, 'content-type': type = '', authorization = null } = request.headers
      const wrong = [
        ...(isBatch(body)
          ? []
          : (isBatch.errors ?? []).map((error) => `${error.instancePath} ${error.message}`)),
        ...(accept === TYPE && type.split(';')[0] === TYPE ? [] : [`its types are ${accept} and ${type}`]),
      ]
      if (wrong.length > 0) {
        double.violations.push(`batch of ${repository}: ${wrong.join(', ')}`)
        return answer(422, { message: wrong.join(', ') })
      }
      double.batches.push({ repository, body, authorization })
      const status = failures.batches.shift()
      if (status !== undefined) return answer(status, { message: `status ${status} of the test` })
      answer(200, {
        transfer: 'basic',
        objects: body.objects.map(({ oid, size }) => {
          if (!owners.has(`${repository} ${oid}`))
            return { oid, size, error: { code: 404, message: 'Object does not exist' } }
          const ticket = `${tickets.size}-${Math.random()}`
          tickets.set(ticket, oid)
          const download = { href: `${url}/${ticket}`, header: { 'X-Ticket': ticket }, ...double.action }
          return { oid, size, authenticated: true, actions: { download } }
        }),
      })
    },
    async [Symbol.asyncDispose]() {
      storage.closeAllConnections()
      storage.close()
      if (double.violations.length > 0) throw new Error(double.violations.join('\n'))
    },
  }
  return double
}
