import type { Scope } from '../core/access/access-token.ts'
import type { Person } from '../core/access/session.ts'

/** What a browser brings back from the forge, and what it was sent there with. */
interface SignInAnswer {
  code: string
  /** The secret of PKCE whose hash the forge was given. */
  verifier: string
  /** The same as for `url`. */
  redirectUri: string
}

export interface SignedIn {
  person: Person
  /** The person's own token at the forge. */
  token: string
  /** For how long it is valid; null if it has no end. */
  expiresInSeconds: number | null
}

/** Signing in at the forge, and what a person may do there. */
export interface SignIn {
  /** Where a browser goes to sign in. @param challenge of PKCE (S256) */
  url(request: { state: string; challenge: string; redirectUri: string }): string
  /** @throws ConveyorError `unauthorized` if the forge does not accept the code, `unavailable` */
  finish(answer: SignInAnswer, signal?: AbortSignal): Promise<SignedIn>
  /**
   * The repositories that the App is installed on and that somebody has access to, by name in lower case: `read` for
   * those who may read, `build` for those who may write, and `admin`.
   * @throws ConveyorError `unauthorized` if the token is no longer valid, `unavailable`
   */
  roles(token: string, signal?: AbortSignal): Promise<ReadonlyMap<string, Scope>>
}
