import type { Artifact } from '../core/build.ts'

/** An image in the registry that a build publishes, and what it was built from. */
export interface RegistryImage extends Pick<Artifact, 'recipe' | 'tree' | 'bases'> {
  /**
   * `reused`: an earlier build pushed it. `built`: this build pushed it, under its sha. `builder-image`: so did a
   * builder image, which may have moved other tags, too.
   */
  origin: 'reused' | 'built' | 'builder-image'
  /** Digest of the manifest, `sha256:...`. */
  digest: string
}

/** The image of a dry run, which stays where it was built. */
export interface LocalImage {
  origin: 'dry-run'
}
