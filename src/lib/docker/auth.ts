import type Dockerode from 'dockerode'
import { isIdentityToken } from '../registry/identity-token.ts'
import { parseReference } from '../registry/image-name.ts'
import type { Credentials, RegistryCredential } from '../registry/registry.ts'

/** Dockerode's type has no place for identity tokens. */
export type EngineAuth = Dockerode.AuthConfig & { identitytoken?: string }

/**
 * What the engine logs in with, for the registry of an image: its X-Registry-Auth.
 * https://docs.docker.com/reference/api/engine/version/v1.41/#section/Authentication
 */
export async function authOf(credentials: Credentials, reference: string): Promise<EngineAuth> {
  const { host } = parseReference(reference)
  const login = await credentials.forHost(host)
  return login ? engineAuth(login, host) : { username: '', password: '' }
}

/** A login as the engine takes it. */
export function engineAuth(login: RegistryCredential, host: string): EngineAuth {
  return isIdentityToken(login)
    ? { username: '', password: '', identitytoken: login.password, serveraddress: host }
    : { ...login, serveraddress: host }
}
