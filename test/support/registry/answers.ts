import type { IncomingMessage, ServerResponse } from 'node:http'
import { frontOf } from './doubles.ts'

/** Error responses of registries, and of proxies in front of them. */
export interface PlannedAnswer {
  status: number
  headers?: Record<string, string>
  body: string
}

const errors = (code: string, message: string) => JSON.stringify({ errors: [{ code, message }] })
const JSON_TYPE = { 'content-type': 'application/json' }
const page = (title: string) =>
  `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<center><h1>${title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n`

/** By our own names. Codes and messages are from the distribution spec, and from the vendors' source code. */
export const ANSWERS: Record<string, PlannedAnswer> = {
  unauthorized: { status: 401, headers: JSON_TYPE, body: errors('UNAUTHORIZED', 'authentication required') },
  'no login': {
    status: 401,
    headers: { ...JSON_TYPE, 'www-authenticate': 'Basic realm="registry"' },
    body: errors('UNAUTHORIZED', 'authentication required'),
  },
  'no scope': {
    status: 401,
    headers: {
      ...JSON_TYPE,
      'www-authenticate': 'Bearer realm="http://HOST/token",service="registry",error="insufficient_scope"',
    },
    body: errors('UNAUTHORIZED', 'authentication required'),
  },
  denied: {
    status: 403,
    headers: JSON_TYPE,
    body: errors('DENIED', 'requested access to the resource is denied'),
  },
  // ECR
  'no repository': {
    status: 404,
    headers: JSON_TYPE,
    body: errors(
      'NAME_UNKNOWN',
      "The repository with name 'acme/app' does not exist in the registry with id '1234'",
    ),
  },
  'read-only': {
    status: 405,
    headers: JSON_TYPE,
    body: errors('UNSUPPORTED', 'The operation is unsupported.'),
  },
  'too large': {
    status: 413,
    headers: { 'content-type': 'text/html' },
    body: page('413 Request Entity Too Large'),
  },
  'too many': {
    status: 429,
    headers: { ...JSON_TYPE, 'retry-after': '1' },
    body: errors('TOOMANYREQUESTS', 'You have reached your pull rate limit'),
  },
  'internal error': { status: 500, headers: JSON_TYPE, body: errors('UNKNOWN', 'unknown error') },
  'bad gateway': { status: 502, headers: { 'content-type': 'text/html' }, body: page('502 Bad Gateway') },
  unavailable: { status: 503, headers: { 'content-type': 'text/plain' }, body: 'no healthy upstream' },
  // ECR
  'tag kept': {
    status: 400,
    headers: JSON_TYPE,
    body: errors(
      'TAG_INVALID',
      "The image tag '1' already exists in the 'acme/app' repository and cannot be overwritten because the repository is immutable.",
    ),
  },
  // Harbor
  'tag kept by Harbor': {
    status: 412,
    headers: JSON_TYPE,
    body: errors('PRECONDITION', "Failed to process request due to 'acme/app:1' configured as immutable."),
  },
  'quota of Harbor': {
    status: 403,
    headers: JSON_TYPE,
    body: errors(
      'DENIED',
      'adding 2.1 MiB of storage resource, which when updated to current usage of 8.3 MiB will exceed the configured upper limit of 10.0 MiB.',
    ),
  },
  'quota of Quay': {
    status: 403,
    headers: JSON_TYPE,
    body: errors('DENIED', 'Quota has been exceeded on namespace'),
  },
  'old registry': { status: 400, headers: JSON_TYPE, body: errors('MANIFEST_INVALID', 'manifest invalid') },
  // The connection ends in the middle of the response body.
  'cut off': { status: 200, headers: { 'content-length': '1000' }, body: '{"schemaVersion": 2, ' },
}

/** The requests that pushes and pulls consist of. */
const REQUESTS = {
  token: (method: string, path: string) => method !== 'HEAD' && path === '/token',
  ping: (_: string, path: string) => path === '/v2/',
  any: (_: string, path: string) => path.startsWith('/v2/') && path !== '/v2/',
  'HEAD manifest': (method: string, path: string) => method === 'HEAD' && MANIFEST.test(path),
  'GET manifest': (method: string, path: string) => method === 'GET' && MANIFEST.test(path),
  'PUT manifest': (method: string, path: string) => method === 'PUT' && MANIFEST.test(path),
  'HEAD blob': (method: string, path: string) => method === 'HEAD' && BLOB.test(path),
  'GET blob': (method: string, path: string) => method === 'GET' && BLOB.test(path),
  'POST upload': (method: string, path: string) => method === 'POST' && UPLOAD.test(path),
  'PATCH upload': (method: string, path: string) => method === 'PATCH' && UPLOAD.test(path),
  'PUT upload': (method: string, path: string) => method === 'PUT' && UPLOAD.test(path),
}
export type RequestKind = keyof typeof REQUESTS

const MANIFEST = /^\/v2\/.+\/manifests\/[^/]+$/
const BLOB = /^\/v2\/.+\/blobs\/sha256:[0-9a-f]+$/
const UPLOAD = /^\/v2\/.+\/blobs\/uploads\//

export function isKind(kind: RequestKind, req: Pick<IncomingMessage, 'method' | 'url'>): boolean {
  const { pathname } = new URL(req.url ?? '/', 'http://registry')
  return REQUESTS[kind](req.method ?? '', pathname)
}

/** Responds as planned. */
export function answerWith({ status, headers = {}, body }: PlannedAnswer, res: ServerResponse): void {
  const here = (value: string) => value.replace('HOST', res.req.headers.host ?? '')
  res.writeHead(
    status,
    Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, here(value)])),
  )
  if (headers['content-length'] === undefined) res.end(body)
  else res.write(body, () => setImmediate(() => res.destroy()))
}

interface Fault {
  request: RequestKind
  answer: string
  /** Digest of the only blob that is affected. */
  of?: string
}

/**
 * A proxy in front of a real registry that requires a token, and rejects some requests on some repositories.
 * @returns `faults`, by the first part of a repository's name
 */
export async function faultyRegistry(real: string) {
  const faults = new Map<string, Fault>()
  const front = await frontOf(real, (req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? '/', 'http://x')
    const [, name = ''] =
      /^(?:\/v2\/|repository:)([^/]+)\//.exec(
        pathname === '/token' ? (searchParams.get('scope') ?? '') : pathname,
      ) ?? []
    const fault = faults.get(name)
    if (fault && isKind(fault.request, req) && (!fault.of || pathname.endsWith(fault.of))) {
      const answer = ANSWERS[fault.answer]
      if (!answer) throw new Error(`no answer is called ${fault.answer}`)
      answerWith(answer, res)
      return true
    }
    if (pathname === '/token') {
      res.end('{"token": "a-token"}')
      return true
    }
    if (req.headers.authorization !== undefined) return false
    const challenge = `Bearer realm="http://${front.host}/token",service="registry"`
    res.writeHead(401, { 'www-authenticate': challenge }).end(ANSWERS.unauthorized?.body)
    return true
  })
  return { front, faults }
}

/** What an engine says of a push that a registry refused with 400 and nothing else. */
export const BARE_REFUSAL = {
  kind: 'answer',
  answer: { status: 400, code: '', message: '' },
  method: null,
  url: null,
} as const
