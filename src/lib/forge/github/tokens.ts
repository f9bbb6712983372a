import { ConveyorError } from '../../core/errors.ts'

/** With which token to talk to GitHub about a repository. */
export interface GitHubTokens {
  /** `app`: installation tokens of a GitHub App, one for each repository. */
  readonly kind: 'none' | 'personal' | 'app'
  /**
   * Null if there is no token: none is configured, or the App is not installed on the repository.
   * @throws ConveyorError `unauthorized`, `not_found` or `unavailable` if GitHub gives none; `cancelled`
   */
  token(repository: string, signal?: AbortSignal): Promise<string | null>
  /** GitHub has answered 401 to a token: it is not given out again, if there can be another. */
  refused(repository: string, token: string): void
}

/** The same token for all repositories. @throws ConveyorError `invalid` if it is malformed */
export function personalTokens(token: string | undefined): GitHubTokens {
  const valid = validToken(token)
  return {
    kind: valid === null ? 'none' : 'personal',
    token: async () => valid,
    refused: () => {},
  }
}

/** Other characters would be rejected later, when setting the header, by an error that quotes the token. */
function validToken(token: string | undefined): string | null {
  if (token === undefined || token === '') return null
  if (/^[\x21-\x7e]+$/.test(token)) return token
  throw new ConveyorError(
    'invalid',
    'the GitHub token contains a space, a line break or a special character',
    { hint: 'Set GITHUB_TOKEN to only the token' },
  )
}
