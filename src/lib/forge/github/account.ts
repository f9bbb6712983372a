import type { Octokit } from '@octokit/rest'

/** The account that a token belongs to. */
export interface Account {
  /** Null without a token, and for the token of an app. */
  login: string | null
  /** Of a classic token; null for other tokens, whose permissions cannot be queried. */
  scopes: string[] | null
  /** Requests per hour; null if the server has no limit. */
  rate: { remaining: number; limit: number } | null
}

interface ApiResponse {
  headers: Record<string, unknown>
  data: unknown
}

/** Fetches the account of the token; without one, only checks that GitHub responds, and the anonymous rate limit. */
export async function fetchAccount(
  api: Octokit,
  hasToken: boolean,
  request: { signal: AbortSignal },
): Promise<Account> {
  const response: ApiResponse = hasToken
    ? await api.users.getAuthenticated({ request }).catch(responseToApp)
    : await api.meta.root({ request })
  const { login } = response.data as { login?: unknown }
  const scopes = response.headers['x-oauth-scopes']
  const limit = response.headers['x-ratelimit-limit']
  return {
    login: typeof login === 'string' ? login : null,
    scopes: typeof scopes === 'string' ? scopes.split(/[\s,]+/).filter(Boolean) : null,
    rate:
      limit === undefined
        ? null
        : { remaining: Number(response.headers['x-ratelimit-remaining']), limit: Number(limit) },
  }
}

/** The token of an app is valid, but belongs to no user; GitHub reports that with this error. */
function responseToApp(error: Error & { response?: ApiResponse }): ApiResponse {
  if (error.response && /not accessible by integration/i.test(error.message)) return error.response
  throw error
}
