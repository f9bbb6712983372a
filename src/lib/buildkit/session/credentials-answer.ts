import { isIdentityToken } from '../../registry/identity-token.ts'
import type { Credentials } from '../../registry/registry.ts'

/** CredentialsResponse of moby.filesync.v1.Auth. */
export interface CredentialsAnswer {
  Username: string
  Secret: string
}

/**
 * What BuildKit logs in with at a registry; both empty for nobody. A secret without a user name is an
 * identity token to it: https://github.com/moby/buildkit/blob/v0.13.2/session/auth/authprovider/authprovider.go
 * @param host as BuildKit calls it, `registry-1.docker.io`
 * @throws ConveyorError of the credentials
 */
export async function credentialsAnswer(credentials: Credentials, host: string): Promise<CredentialsAnswer> {
  const found = await credentials.forHost(host)
  if (!found) return { Username: '', Secret: '' }
  return { Username: isIdentityToken(found) ? '' : found.username, Secret: found.password }
}
