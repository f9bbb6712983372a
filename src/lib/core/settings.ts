/** What is configured outside of a repository and affects its images. */
export interface BuildSettings {
  buildArgs: Record<string, string>
  /** Network of RUN steps; null for the builder's default. */
  network: string | null
  /** Stage of the Dockerfile to build; null for the last one. */
  target: string | null
  /** `linux/arm64` and so on; empty for the builder's own platform. */
  platforms: string[]
  /** Extra `/etc/hosts` entries of RUN steps: addresses by name. */
  hosts: Record<string, string>
  /** Limits of RUN steps by name, `SOFT[:HARD]`. */
  ulimits: Record<string, string>
  /** Named contexts for `FROM NAME` and `COPY --from=NAME`: `docker-image://...` or a URL, by name. */
  contexts: Record<string, string>
  /** Attestations to attach to the image. */
  attest: Attestation[]
  /**
   * Clamps the times of files in layers to the commit's, so that the same build produces the same layers everywhere.
   */
  reproducible: boolean
  /** Gives the standard build arguments about the commit, such as GIT_SHA, where the Dockerfile declares them. */
  gitArgs: boolean
  /** Whether the context has a `.git` folder: then an image is of its commit, not only of its files. */
  git: boolean
  /** Socket of the SSH agent for `RUN --mount=type=ssh`; null for none. Like secrets, not part of the recipe. */
  ssh: string | null
}

/** The defaults: nothing is configured. */
export const NO_SETTINGS: BuildSettings = {
  buildArgs: {},
  network: null,
  target: null,
  platforms: [],
  hosts: {},
  ulimits: {},
  contexts: {},
  attest: [],
  reproducible: false,
  gitArgs: false,
  git: false,
  ssh: null,
}

/** How the image was built (SLSA provenance), and which software it contains (a software bill of materials). */
type Attestation = 'provenance' | 'sbom'

/** Which builds move `latest`: all of them, or only those of the repository's default branch. */
export type LatestPolicy = 'always' | 'default-branch'

/**
 * Patterns of the branches and git tags of a repository that are built, in order: the last one that matches decides, and
 * one that begins with `!` excludes. Empty: all are built.
 */
export interface RefPatterns {
  branches: readonly string[]
  tags: readonly string[]
}

/** Which builds a newer push of their branch cancels: those that wait, also those that run, or none. */
export type SupersedePolicy = 'queued' | 'running' | 'off'
