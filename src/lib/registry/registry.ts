import type { Ref } from '../core/build.ts'

/** A username and password (or token) for one registry host. */
export interface RegistryCredential {
  username: string
  password: string
}

/** Looks up the credential for a registry host (`127.0.0.1:5000`, `ghcr.io`, `docker.io`); null if there is none. */
export interface CredentialStore {
  forHost(host: string): Promise<RegistryCredential | null>
}

/** A manifest as the registry has it; the bytes are what the digest is of. */
export interface Manifest {
  digest: string
  mediaType: string
  bytes: Uint8Array
}

/**
 * What Conveyor asks of a registry (OCI distribution spec, version 1.1). A signal that is aborted ends a
 * call with the signal's reason.
 */
export interface Registry {
  /** Digest of a tag or digest, null when the registry has no such manifest. */
  head(imageName: string, reference: string, signal?: AbortSignal): Promise<string | null>
  /** @throws ConveyorError `not_found` */
  manifest(imageName: string, reference: string, signal?: AbortSignal): Promise<Manifest>
  /** Points a tag at a manifest whose layers are in the repository already. */
  putManifest(imageName: string, tag: string, manifest: Manifest, signal?: AbortSignal): Promise<void>
}

/** How repositories and refs are called in the registry. */
export interface ImageNames {
  /** Image of a repository, `host/prefix/owner/name`. @throws ConveyorError `invalid` where there can be none. */
  image(repository: string): string
  /** Docker tag of a branch or git tag; `spare` 1 or 2 gives one for where that is another ref's. */
  tag(ref: Ref, spare?: 0 | 1 | 2): string
}
