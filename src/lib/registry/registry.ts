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

/** A manifest as stored in the registry; the digest is that of the bytes. */
export interface Manifest {
  digest: string
  mediaType: string
  bytes: Uint8Array
}

/** The parts of a registry that Conveyor uses (OCI distribution spec 1.1). Aborting a signal rejects with its reason. */
export interface Registry {
  /** Resolves a tag or digest to a digest; null if the registry has no such manifest. */
  head(imageName: string, reference: string, signal?: AbortSignal): Promise<string | null>
  /** @throws ConveyorError `not_found` */
  manifest(imageName: string, reference: string, signal?: AbortSignal): Promise<Manifest>
  /** Points a tag to a manifest whose layers are already in the repository. */
  putManifest(imageName: string, tag: string, manifest: Manifest, signal?: AbortSignal): Promise<void>
  /** Removes a tag, and nothing else. False if the registry does not do that, or our login may not. */
  deleteTag(imageName: string, tag: string, signal?: AbortSignal): Promise<boolean>
}

/** Names of repositories and refs in the registry. */
export interface ImageNames {
  /** Image name of a repository, `host/prefix/owner/name`. @throws ConveyorError `invalid` if that is no valid name */
  image(repository: string): string
  /** Docker tag of a branch or git tag; `spare` 1 or 2 if another ref has that tag. */
  tag(ref: Ref, spare?: 0 | 1 | 2): string
}
