import type { Octokit } from '@octokit/rest'

/** Whom GitHub takes us for. */
export interface Account {
  /** Null without a token, and for that of an app, which is nobody. */
  login: string | null
  /** Of a classic token; null for the others, whose permissions cannot be asked for. */
  scopes: string[] | null
  /** Requests per hour; null where the server sets no limit. */
  rate: { remaining: number; limit: number } | null
}

interface Answer {
  headers: Record<string, unknown>
  data: unknown
}

/** Asks whose the token is; without one, only whether GitHub is there, and what it lets nobody do. */
export async function askAccount(
  api: Octokit,
  hasToken: boolean,
  request: { signal: AbortSignal },
): Promise<Account> {
  const answer: Answer = hasToken
    ? await api.users.getAuthenticated({ request }).catch(answerToApp)
    : await api.meta.root({ request })
  const { login } = answer.data as { login?: unknown }
  const scopes = answer.headers['x-oauth-scopes']
  const limit = answer.headers['x-ratelimit-limit']
  return {
    login: typeof login === 'string' ? login : null,
    scopes: typeof scopes === 'string' ? scopes.split(/[\s,]+/).filter(Boolean) : null,
    rate:
      limit === undefined
        ? null
        : { remaining: Number(answer.headers['x-ratelimit-remaining']), limit: Number(limit) },
  }
}

/** The token of an app is valid, and no user's: the answer says so. */
function answerToApp(error: Error & { response?: Answer }): Answer {
  if (error.response && /not accessible by integration/i.test(error.message)) return error.response
  throw error
}
