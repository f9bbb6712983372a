/** What a caller may do. Each scope includes those before it. */
export const SCOPES = ['read', 'build', 'admin'] as const

/**
 * - `read`: everything that is shown, except tokens.
 * - `build`: requests, cancels, and retries builds.
 * - `admin`: creates and revokes tokens.
 */
export type Scope = (typeof SCOPES)[number]

/** A scope and all that it includes. */
export function scopesUpTo(scope: Scope): readonly Scope[] {
  return SCOPES.slice(0, SCOPES.indexOf(scope) + 1)
}
