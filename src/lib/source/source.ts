import type { Ref } from '../core/build.ts'

/** A commit that is in the worker's mirror. */
export interface Commit {
  repository: string
  sha: string
  /** Id of the commit's tree. */
  tree: string
  /** Committer date, ISO 8601 in UTC. */
  committedAt: string
  /** The bare repository that has it. */
  gitDir: string
}

/** One entry of a build context. */
export interface ContextEntry {
  /** Path from the context's root, `/` between parts, for people and for pattern matching. */
  path: string
  /** The same path as git has it; the two differ where a name is not valid UTF-8. */
  rawPath: Uint8Array
  kind: 'directory' | 'file' | 'symlink'
  /** Unix permission bits as `git checkout` sets them under umask 022: 0o755 or 0o644 (symlinks 0o777). */
  mode: number
  /** Bytes of content; 0 for directories and symlinks. */
  size: number
  /** Same content, same id: the blob id, or for converted content (eol, ident) a hash of the result. */
  contentId: string
  /** Where a symlink points; empty for others. */
  linkTarget: Uint8Array
}

/**
 * The file tree of one commit as BuildKit wants it. Read from git's objects; nothing is checked out.
 */
export interface Context {
  /** Path of the Dockerfile in the context, e.g. `Dockerfile`. */
  dockerfile: string
  /** The entries after .dockerignore, sorted so that `/` comes before every other byte. */
  entries: ContextEntry[]
  /** The Dockerfile and the ignore files, whether .dockerignore excludes them or not, in the same order. */
  dockerfileEntries: ContextEntry[]
  /** The content of a file entry, in pieces. Calls may overlap. */
  read(entry: ContextEntry, signal?: AbortSignal): AsyncIterable<Uint8Array>
  /** Ends the git processes behind it. Idempotent. */
  close(): Promise<void>
}

export interface FetchOptions {
  signal?: AbortSignal
  /** Told what happens, one line at a time, without a newline. */
  log?: (line: string) => void
}

export interface Change {
  path: string
  kind: 'added' | 'changed' | 'removed'
}

/** Where commits come from. */
export interface Source {
  /**
   * Brings one commit into the mirror with the least transfer; does nothing when it is there already.
   * Fetches of one repository run one after the other.
   * @throws ConveyorError `not_found` (repository or commit), `unauthorized`, `unavailable` (server, network, disk).
   */
  fetch(repository: string, sha: string, options?: FetchOptions): Promise<Commit>
  /**
   * The build context of a commit.
   * @throws ConveyorError `build_failed` when there is no Dockerfile, or the tree holds what cannot be
   * built from git objects alone (submodules, Git LFS pointers), naming the path.
   */
  context(commit: Commit, options?: { dockerfile?: string; signal?: AbortSignal }): Promise<Context>
  /**
   * Paths that differ between a commit and an earlier one (or one with its tree), with what happened to
   * them since; null when that is not in the mirror (any more).
   */
  changes(commit: Commit, earlier: { sha: string; tree: string | null }): Promise<Change[] | null>
}

/** What is known of refs and commits where they are pushed to. */
export interface History {
  /**
   * Where a branch or git tag is now (an annotated tag: its commit), or without one the default branch; null when
   * there is none. Costs no quota of an API.
   * @throws ConveyorError `not_found` (repository), `unauthorized`, `unavailable`
   */
  head(repository: string, ref: Ref | null, signal?: AbortSignal): Promise<{ ref: Ref; sha: string } | null>
  /**
   * Whether the history of the commit `head` contains the commit `sha`. False where there is no such commit.
   * @throws ConveyorError as head
   */
  contains(repository: string, head: string, sha: string, signal?: AbortSignal): Promise<boolean>
}
