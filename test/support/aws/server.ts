import http, { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import type { DatabaseSync } from 'node:sqlite'
import { KeyedMutex } from '../../../src/lib/util/locks/keyed-mutex.ts'

/**
 * The process behind startAws: fauxqs, with four additions. It listens on loopback only; it rejects conditional writes
 * whose condition is not met, as S3 does since 2024
 * (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html); it counts S3 requests; and if its
 * state is in a folder, it keeps messages that are released with no delay.
 *
 * Arguments: the port, and a folder for its state; without a folder, the state is in memory.
 */
const port = Number(process.argv[2])
const dataDir = process.argv[3]
const turns = new KeyedMutex()
const counts: Record<string, number> = {}

const createServer = http.createServer.bind(http)
http.createServer = ((options: http.ServerOptions, handle: RequestListener) => {
  const server = createServer(options, (request, response) => void front(request, response, handle))
  const listen = server.listen.bind(server)
  server.listen = ((where: object, done?: () => void) =>
    listen({ ...where, host: '127.0.0.1' }, done)) as typeof server.listen
  return server
}) as typeof http.createServer

// It would write a count of null, which its own table rejects.
const { PersistenceManager } = await import(new URL('./persistence.js', import.meta.resolve('fauxqs')).href)
PersistenceManager.prototype.updateMessageReady = function (this: { db: DatabaseSync }, id: string) {
  const giveBack =
    'update sqs_messages set receipt_handle = null, visibility_deadline = null where message_id = ?'
  this.db.prepare(giveBack).run(id)
}

const { startFauxqs } = await import('fauxqs')
await startFauxqs({ port, logger: false, ...(dataDir ? { dataDir } : {}) })
process.stdout.write('listening\n')

async function front(request: IncomingMessage, response: ServerResponse, handle: RequestListener) {
  const url = new URL(request.url ?? '/', 'http://localhost')
  if (url.pathname === '/_requests') {
    response.end(JSON.stringify(counts))
    return
  }
  const internal = request.headers['x-from-ourselves'] !== undefined
  if (url.pathname !== '/' && !internal) count(operation(request.method ?? '', url))
  const { 'if-none-match': none, 'if-match': match } = request.headers
  const write = request.method === 'PUT' || request.method === 'POST'
  if (!write || (none === undefined && match === undefined)) return handle(request, response)
  await turns.run(url.pathname, async () => {
    const etag = await etagOf(url.pathname)
    const holds = none === undefined ? etag === match : etag === null
    if (holds) {
      handle(request, response)
      await new Promise((resolve) => response.once('close', resolve))
      return
    }
    request.resume()
    const code = etag === null ? 'NoSuchKey' : 'PreconditionFailed'
    response.writeHead(etag === null ? 404 : 412, { 'content-type': 'application/xml' })
    response.end(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code></Error>`)
  })
}

/** The ETag of an object; null if there is no such object. */
async function etagOf(path: string): Promise<string | null> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'HEAD',
    headers: { 'x-from-ourselves': 'yes' },
  })
  return response.ok ? response.headers.get('etag') : null
}

function operation(method: string, { pathname, searchParams }: URL): string {
  if (method === 'GET' && searchParams.has('list-type')) return 'LIST'
  if (method === 'POST' && searchParams.has('delete')) return 'DELETE'
  if (searchParams.has('uploads')) return 'CREATE'
  if (searchParams.has('uploadId')) return method === 'POST' ? 'COMPLETE' : 'PART'
  return pathname.split('/').filter(Boolean).length < 2 ? `${method} bucket` : method
}

function count(name: string): void {
  counts[name] = (counts[name] ?? 0) + 1
}
