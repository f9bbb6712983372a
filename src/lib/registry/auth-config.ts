import { parseReference } from './image-name.ts'
import type { CredentialStore, RegistryCredential } from './registry.ts'

/** One credential in the forms that registries, the Docker engine, BuildKit and Docker's config.json expect. */

/**
 * The username with which Docker and its credential helpers mark a password that is an identity token: an OAuth
 * refresh token, which a token server exchanges for a registry token.
 * https://github.com/docker/docker-credential-helpers#development
 */
export const IDENTITY_TOKEN_USER = '<token>'

/** Whether a credential is an identity token rather than a username and password. */
export function isIdentityToken({ username }: { username: string }): boolean {
  return username === IDENTITY_TOKEN_USER
}

/** Dockerode's AuthConfig, whose type lacks identity tokens. */
export interface EngineAuth {
  username: string
  password: string
  serveraddress?: string
  identitytoken?: string
}

/**
 * X-Registry-Auth of the Docker engine.
 * https://docs.docker.com/reference/api/engine/version/v1.41/#section/Authentication
 */
function engineAuth(credential: RegistryCredential, host: string): EngineAuth {
  return isIdentityToken(credential)
    ? { username: '', password: '', identitytoken: credential.password, serveraddress: host }
    : { ...credential, serveraddress: host }
}

/** X-Registry-Auth without a login; the engine requires the header for a push. */
export const ANONYMOUS: EngineAuth = { username: '', password: '' }

/**
 * X-Registry-Auth for the registry of an image; undefined if there is no credential for it.
 * @throws ConveyorError `invalid` for an invalid reference, and what the store throws
 */
export async function engineAuthFor(
  credentials: CredentialStore,
  image: string,
): Promise<EngineAuth | undefined> {
  const { host } = parseReference(image)
  const credential = await credentials.forHost(host)
  return credential ? engineAuth(credential, host) : undefined
}

/** CredentialsResponse of moby.filesync.v1.Auth. */
export interface BuildkitAuth {
  Username: string
  Secret: string
}

/**
 * A credential as BuildKit expects it: both fields empty for anonymous access; a secret without a username is an
 * identity token.
 * https://github.com/moby/buildkit/blob/v0.13.2/session/auth/authprovider/authprovider.go
 */
export function buildkitAuth(credential: RegistryCredential | null): BuildkitAuth {
  if (!credential) return { Username: '', Secret: '' }
  return { Username: isIdentityToken(credential) ? '' : credential.username, Secret: credential.password }
}

/** An entry of `auths` in Docker's config.json. */
export interface AuthEntry {
  /** `username:password` in base64. */
  auth?: string
  username?: string
  password?: string
  identitytoken?: string
}

export function authEntry(credential: RegistryCredential): AuthEntry {
  if (isIdentityToken(credential)) return { identitytoken: credential.password }
  return { auth: base64(credential) }
}

/** An Authorization header. */
export function basicAuth(credential: RegistryCredential): string {
  return `Basic ${base64(credential)}`
}

function base64({ username, password }: RegistryCredential): string {
  return Buffer.from(`${username}:${password}`).toString('base64')
}
