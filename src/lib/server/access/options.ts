import type { BasicAuth } from '../../api/basic-auth.ts'
import type { Scope } from '../../core/access/access-token.ts'
import type { SignIn } from '../../forge/sign-in.ts'

export interface AccessOptions {
  /**
   * The login of the operator. `none` lets everyone read and build without credentials; null only requests from this
   * machine. Tokens are accepted in any case.
   */
  auth: BasicAuth | 'none' | null
  /** Public base URL. */
  baseUrl: () => string
  /** Additional host names of the server: `conveyor.lan`, `*.example.com`, or `*` for any. */
  allowedHosts?: readonly string[]
  /** Reverse proxies that are trusted; none by default. */
  proxies?: TrustedProxies | null
}

/** How people sign in at the forge; they cannot by default. */
export interface SignInOptions {
  signIn?: SignIn | null
}

/** Proxies that say truly for whom they forward a request. */
export interface TrustedProxies {
  /** Whether the address of a TCP peer is that of a trusted proxy. */
  has: (address: string) => boolean
  /** The header with the name of the user that the proxy has authenticated, in lower case, and what such users may do. */
  login: { header: string; scope: Scope } | null
}
