import { type BasicAuth, basicAuthHeader } from './basic-auth.ts'

/** What a client authenticates with. */
export type ServerLogin = BasicAuth | { token: string }

/** Value of the `Authorization` header. */
export function authorizationHeader(login: ServerLogin): string {
  return 'token' in login ? `Bearer ${login.token}` : basicAuthHeader(login)
}
