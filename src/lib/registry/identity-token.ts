/**
 * The user name with which docker, and its credential helpers, mark a password that is really an identity
 * token: an OAuth refresh token, which a token server trades in for a token of the registry.
 * https://github.com/docker/docker-credential-helpers#development
 */
export const IDENTITY_TOKEN_USER = '<token>'

/** Whether a login is an identity token rather than a user's name and password. */
export function isIdentityToken({ username }: { username: string }): boolean {
  return username === IDENTITY_TOKEN_USER
}
