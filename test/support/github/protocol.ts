import type { IncomingMessage, ServerResponse } from 'node:http'
import { text as textOf } from 'node:stream/consumers'
import type { GitHubSchema, Operation } from './schema.ts'

export interface RecordedRequest {
  method: string
  /** As sent, still encoded, without the base path. */
  path: string
  headers: IncomingMessage['headers']
  body: unknown
}

/** An HTTP status, or no response: the request hangs, or its connection is reset. */
export type FailureKind = number | 'hang' | 'reset'

export interface FailureDetails {
  headers?: Record<string, string>
  /** A string is sent as HTML, anything else as JSON. */
  body?: unknown
}

/** The response to a request; `kind` is not a number if there is none. */
export interface Answer extends FailureDetails {
  kind: FailureKind
}

/** The only version that the description covers. */
const API_VERSION = '2022-11-28'

export async function receive(incoming: IncomingMessage, basePath: string): Promise<RecordedRequest> {
  const { method = '', url = '', headers } = incoming
  const content = await textOf(incoming)
  if (!url.startsWith(`${basePath}/`)) throw new Error(`not under ${basePath}`)
  const body: unknown = content === '' ? undefined : JSON.parse(content)
  return { method, path: url.slice(basePath.length), headers, body }
}

export function respond(response: ServerResponse, { kind, headers, body }: Answer): void {
  if (kind === 'hang') return
  if (kind === 'reset') {
    response.socket?.resetAndDestroy()
    return
  }
  if (kind === 204) {
    response.writeHead(kind, headers).end()
    return
  }
  const html = typeof body === 'string'
  const standard = {
    'content-type': html ? 'text/html; charset=utf-8' : 'application/json; charset=utf-8',
    'x-github-media-type': 'github.v3; format=json',
    'x-github-request-id': 'C0DE:1:2:3:4',
  }
  response.writeHead(kind, { ...standard, ...headers })
  response.end(html ? body : JSON.stringify(body ?? problem(kind, 'Planned failure').body))
}

/** GitHub's rules for headers, which are not part of the description of an operation. */
export function problemsOfHeaders({ headers, body }: RecordedRequest): string[] {
  const problems: string[] = []
  if (!headers['user-agent']) problems.push('the header User-Agent is missing')
  if (!/json|\*\/\*/.test(headers.accept ?? '')) problems.push(`Accept is ${headers.accept}`)
  const { 'x-github-api-version': version = API_VERSION } = headers
  if (version !== API_VERSION) problems.push(`X-GitHub-Api-Version is ${version}`)
  if (body !== undefined && !headers['content-type']?.startsWith('application/json')) {
    problems.push(`Content-Type is ${headers['content-type']}`)
  }
  return problems
}

/** Limits that GitHub enforces, but does not describe. */
export function problemsBeyondSchema(params: Record<string, string>, body: unknown): string[] {
  const problems: string[] = []
  const { description, target_url } = (body ?? {}) as { description?: unknown; target_url?: unknown }
  if (typeof description === 'string' && [...description].length > 140) {
    problems.push('description is too long (maximum is 140 characters)')
  }
  if (typeof target_url === 'string' && !/^https?:\/\//.test(target_url)) {
    problems.push('target_url must use http(s) scheme')
  }
  if (params.sha !== undefined && !/^[0-9a-f]{40}$/.test(params.sha)) {
    problems.push(`No commit found for SHA: ${params.sha}`)
  }
  return problems
}

/** Anyone may read, as the repositories are public; writing requires the token. */
export function denial({ method, path, headers }: RecordedRequest, token: string | undefined): Answer | null {
  if (token === undefined) return null
  // The code in the path is the credential.
  if (path.startsWith('/app-manifests/') && headers.authorization === undefined) return null
  const given = /^(?:token|bearer) (.+)$/i.exec(headers.authorization ?? '')?.[1]
  if (given === token) return null
  if (headers.authorization !== undefined) return problem(401, 'Bad credentials')
  return method === 'GET' ? null : problem(401, 'Requires authentication')
}

export function checkAnswer(schema: GitHubSchema, operation: Operation, { kind, body }: Answer): string[] {
  if (typeof kind !== 'number') return []
  if (kind < 300) return operation.checkAnswer(kind, body)
  return schema.checkPayload(kind === 422 ? 'validation-error' : 'basic-error', body)
}

export function problem(status: number, message: string): Answer & { kind: number } {
  const documentation_url = 'https://docs.github.com/rest'
  return { kind: status, body: { message, documentation_url, status: String(status) } }
}

export function invalid(message: string): Answer {
  const { kind, body } = problem(422, 'Validation Failed')
  return { kind, body: { ...(body as object), errors: [{ resource: 'Status', code: 'custom', message }] } }
}
