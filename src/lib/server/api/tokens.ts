import type { FastifyInstance, FastifyRequest } from 'fastify'
import { NewTokenJson, TokenJson, TokenOrderJson, TokensJson, tokenJson } from '../../api/token.ts'
import { Type } from '../../api/type.ts'
import { type AccessTokens, SCOPES, type TokenOrder } from '../../core/access/access-token.ts'
import { issueToken, revokeToken } from '../../core/access/issue-token.ts'
import { ConveyorError } from '../../core/errors.ts'
import { answers, json } from './answers.ts'

export interface TokensRoutesOptions {
  store: { tokens: AccessTokens }
  /** The server's own log, one line at a time. */
  log: (line: string) => void
}

const LIST_TOKENS = {
  operationId: 'listTokens',
  tags: ['operation'],
  summary: 'List the tokens for the API',
  description: 'Without those that are revoked, oldest first.',
  response: answers({ 200: json('The tokens', TokensJson) }),
}
const CREATE_TOKEN = {
  operationId: 'createToken',
  tags: ['operation'],
  summary: 'Create a token for the API',
  body: TokenOrderJson,
  response: answers({ 201: json('The token, with its text', NewTokenJson) }, 413),
}
const REVOKE_TOKEN = {
  operationId: 'revokeToken',
  tags: ['operation'],
  summary: 'Revoke a token for the API',
  params: Type.Object({ key: Type.String({ description: 'Its name or id', examples: ['ci'] }) }),
  response: answers({ 200: json('The revoked token', TokenJson) }, 404),
}

const KEYS = ['name', 'scope', 'repositories', 'expires_in']

/** GET /tokens, POST /tokens, DELETE /tokens/{id or name}. */
export async function tokensRoutes(app: FastifyInstance, options: TokensRoutesOptions): Promise<void> {
  const { store, log } = options
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'string' }, async (_request: FastifyRequest, text: string) => text)
  const config = { scope: 'admin', allRepositories: true } as const

  app.get('/tokens', { config, schema: LIST_TOKENS }, async (): Promise<TokensJson> => {
    const tokens = await store.tokens.list()
    return { tokens: tokens.map(tokenJson) }
  })

  app.post(
    '/tokens',
    { bodyLimit: 16 * 1024, config, schema: CREATE_TOKEN },
    async (request, reply): Promise<NewTokenJson> => {
      const order = parseOrder(typeof request.body === 'string' ? request.body : '')
      const { token, text } = await issueToken(store.tokens, order, request.identity.name)
      log(`api: ${request.identity.name} created the token ${token.name} with the scope ${token.scope}`)
      reply.code(201)
      return { ...tokenJson(token), token: text }
    },
  )

  app.delete('/tokens/:key', { config, schema: REVOKE_TOKEN }, async (request): Promise<TokenJson> => {
    const { key } = request.params as { key: string }
    const token = await revokeToken(store.tokens, key)
    log(`api: ${request.identity.name} revoked the token ${token.name}`)
    return tokenJson(token)
  })
}

function parseOrder(text: string): TokenOrder {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    throw new ConveyorError('invalid', 'the body is not valid JSON')
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ConveyorError('invalid', 'the body must be a JSON object')
  }
  const given = body as Record<string, unknown>
  // A misspelled `repositories` would create a token for all of them.
  const unknown = Object.keys(given).find((key) => !KEYS.includes(key))
  if (unknown !== undefined) {
    throw new ConveyorError(
      'invalid',
      `the body has the unknown key ${JSON.stringify(unknown.slice(0, 100))}`,
      {
        field: unknown.slice(0, 100),
        hint: `Use ${KEYS.join(', ')}`,
      },
    )
  }
  const { name, repositories = [], expires_in: expiresIn = null } = given
  if (typeof name !== 'string') throw invalid('name', 'name must be a string')
  const scope = SCOPES.find((one) => one === given.scope)
  if (scope === undefined) throw invalid('scope', 'scope must be read, build, or admin')
  if (!Array.isArray(repositories) || !repositories.every((one) => typeof one === 'string')) {
    throw invalid('repositories', 'repositories must be an array of strings such as acme/*')
  }
  if (expiresIn !== null && typeof expiresIn !== 'string') {
    throw invalid('expires_in', 'expires_in must be a string such as 90d')
  }
  return { name, scope, repositories, expiresIn }
}

function invalid(field: string, message: string): ConveyorError {
  return new ConveyorError('invalid', message, { field })
}
