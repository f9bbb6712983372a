import { type Scope, scopesUpTo } from '../../core/access/access-token.ts'
import { repositoryFilter } from '../../core/allowed-repositories.ts'
import { repositoryKey } from '../../core/repository-key.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * Needs no credentials, and accepts any Host header. With `identified`, the route learns who asks; whoever would be
     * refused elsewhere is NOBODY.
     */
    public?: boolean | 'identified'
    /** What a caller needs to use the route. A route that is not public and has no scope refuses everyone. */
    scope?: Scope
    /** What the route shows is not limited to repositories, so it is not for callers who are. */
    allRepositories?: boolean
    /** A browser is asked for the login of --auth, even where people can sign in with GitHub. */
    challenge?: boolean
  }
  interface FastifyInstance {
    /** All routes that `guard` guards, for tests. */
    guarded: readonly GuardedRoute[]
    /** Whether whoever sent a request would still be admitted: tokens expire, and people lose access to repositories. */
    stillAdmits(request: FastifyRequest): Promise<boolean>
  }
  interface FastifyRequest {
    /** Who asks. On public routes NOBODY, unless they are `identified`. */
    identity: Identity
  }
}

export interface GuardedRoute {
  method: string
  /** The pattern, such as `/builds/:key`. */
  url: string
  access: Scope | 'public' | 'none'
}

/** Who sent a request, and what they may do. */
export interface Identity {
  /** The user, or the name of the token; for logs and statuses such as "cancelled by". */
  name: string
  scopes: readonly Scope[]
  /** Id of the token that was sent; absent for others, who may have the name of a token. */
  token?: string
  /** Globs of the repositories that they may see and build, such as `acme/*`; null for all. */
  repositories: readonly string[] | null
  /** What they may do on each repository, by name in lower case, where that differs: only of people who signed in. */
  roles?: ReadonlyMap<string, Scope>
}

export const NOBODY: Identity = { name: 'nobody', scopes: [], repositories: [] }

/** Somebody with this scope and what it includes, for all repositories. */
export function identityWith(name: string, scope: Scope): Identity {
  return { name, scopes: scopesUpTo(scope), repositories: null }
}

/** What somebody may use of a route: of people who signed in, only the repositories on which they have its scope. */
export function narrowedTo(scope: Scope, identity: Identity): Identity {
  if (!identity.roles || scope === 'read') return identity
  const roles = new Map([...identity.roles].filter(([, role]) => scopesUpTo(role).includes(scope)))
  return { ...identity, roles, repositories: [...roles.keys()] }
}

/**
 * Whether somebody may see a repository, and do there what the route's scope allows, or what another one does. What they
 * may not see has to look as if it did not exist: answer with 404.
 */
export function mayUse(
  { scopes, repositories, roles }: Identity,
  repository: string,
  scope?: Scope,
): boolean {
  if (roles) {
    const role = roles.get(repositoryKey(repository))
    return role !== undefined && (scope === undefined || scopesUpTo(role).includes(scope))
  }
  if (scope !== undefined && !scopes.includes(scope)) return false
  // The filter takes an empty list for all of them.
  return repositories === null || (repositories.length > 0 && repositoryFilter(repositories)(repository))
}
