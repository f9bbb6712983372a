import type { CommitInfo, Head, Ref } from '../core/build.ts'

/** A commit in the worker's mirror. */
export interface Commit {
  /** `owner/name`; for a submodule on another server, its host and path. */
  repository: string
  /** Where it was fetched from, without credentials. */
  url: string
  sha: string
  /** Id of the commit's tree. */
  tree: string
  /** Committer date, ISO 8601 in UTC. */
  committedAt: string
  /** What it says about itself; without a login. */
  info: CommitInfo
  /** The bare repository that contains it. */
  gitDir: string
}

/** One entry of a build context. */
export interface ContextEntry {
  /** Path from the context's root, `/` between parts, for people and for pattern matching. */
  path: string
  /** The same path as stored in git; the two differ if a name is not valid UTF-8. */
  rawPath: Uint8Array
  kind: 'directory' | 'file' | 'symlink'
  /** Unix permission bits as `git checkout` sets them under umask 022: 0o755 or 0o644 (symlinks 0o777). */
  mode: number
  /** Bytes of content; 0 for directories and symlinks. */
  size: number
  /** Identifies the content: the blob id, or for other content (eol, ident, Git LFS) a hash of the result. */
  contentId: string
  /** Target of a symlink; empty for others. */
  linkTarget: Uint8Array
}

/**
 * The file tree of a commit in the form BuildKit needs. Read from git objects, without a checkout.
 */
export interface Context {
  /** Path of the Dockerfile in the context, as BuildKit is to ask for it, e.g. `Dockerfile`. */
  dockerfile: string
  /** The file that it leads to, which may have any name: one of `dockerfileEntries`. */
  dockerfileEntry: ContextEntry
  /** The entries after .dockerignore, sorted so that `/` comes before every other byte. */
  entries: ContextEntry[]
  /** The Dockerfile and the ignore files, with the symlinks to them, even if .dockerignore excludes them, in the same order. */
  dockerfileEntries: ContextEntry[]
  /**
   * The entries without what these patterns exclude, which BuildKit's frontend found in an ignore file, or chose itself.
   * @throws ConveyorError `build_failed` if one is malformed
   */
  entriesWithout(patterns: readonly string[], signal?: AbortSignal): Promise<ContextEntry[]>
  /**
   * The content of a file entry, in pieces. Calls may overlap.
   * @throws ConveyorError, for a file in Git LFS also `build_failed` if its object is missing, and `unauthorized`
   */
  read(entry: ContextEntry, signal?: AbortSignal): AsyncIterable<Uint8Array>
  /** Stops its git processes. Idempotent. */
  close(): Promise<void>
}

export interface FetchOptions {
  signal?: AbortSignal | undefined
  /** Receives progress lines, without line breaks. */
  log?: ((line: string) => void) | undefined
  /** Fails with `not_found` instead of connecting to a server. */
  offline?: boolean | undefined
}

export interface ContextOptions extends FetchOptions {
  /** Its path. Default `Dockerfile`. */
  dockerfile?: string
  /** Submodules are fetched as the public can: without credentials, and not from the mirrors of what needs them. */
  anonymous?: boolean | undefined
}

export interface FileChange {
  path: string
  kind: 'added' | 'changed' | 'removed'
}

/** Where commits come from. */
export interface Source {
  /**
   * Fetches a commit into the mirror with minimal transfer; does nothing if it is already there.
   * Fetches of the same repository run one at a time.
   * @throws ConveyorError `not_found` (repository or commit), `unauthorized`, `unavailable` (server, network, disk).
   */
  fetch(repository: string, sha: string, options?: FetchOptions): Promise<Commit>
  /**
   * The build context of a commit. Fetches its submodules, unless they are excluded from it. Files in Git LFS are
   * downloaded when they are read.
   * @throws ConveyorError `build_failed` if there is no Dockerfile, or if the tree contains what cannot be built
   * (such as extensions of Git LFS), naming the path; as `fetch` for a submodule
   */
  context(commit: Commit, options?: ContextOptions): Promise<Context>
  /** An earlier commit, or another one with the same tree; null if the mirror does not have it (any more). */
  earlier(commit: Commit, earlier: { sha: string; tree: string | null }): Promise<Commit | null>
  /**
   * Files that changed between an earlier commit (or one with the same tree) and this one; null if the earlier one is
   * not in the mirror (any more).
   */
  changes(
    commit: Commit,
    earlier: { sha: string; tree: string | null },
    signal?: AbortSignal,
  ): Promise<FileChange[] | null>
}

/** Looks up refs and commits in the repository that is pushed to. */
export interface History {
  /**
   * The current commit of a branch or git tag (for an annotated tag, its commit), or without a ref, of the default
   * branch; null if the ref does not exist. Uses no API quota.
   * @throws ConveyorError `not_found` (repository), `unauthorized`, `unavailable`
   */
  head(repository: string, ref: Ref | null, signal?: AbortSignal): Promise<{ ref: Ref; sha: string } | null>
  /**
   * Whether the history of the commit `head` contains the commit `sha`. False if there is no such commit.
   * @throws ConveyorError as head
   */
  contains(repository: string, head: string, sha: string, signal?: AbortSignal): Promise<boolean>
}

/** What a commit says that nobody has told us about. */
export interface FoundCommit {
  tree: string
  /** Committer date, ISO 8601 in UTC. */
  committedAt: string
  /** Without a login. */
  info: CommitInfo
  /** At most its first 16 kB. */
  message: string
}

/** Looks at all branches and git tags of a repository. Uses no API quota. */
export interface RemoteHeads {
  /**
   * Every branch and git tag that can be built, in one request.
   * @throws ConveyorError as History.head; `invalid` if there are more than 100,000
   */
  heads(repository: string, signal?: AbortSignal): Promise<Head[]>
  /**
   * What these commits say about themselves, at most some hundred, in one request. Left out are ids of other objects,
   * and commits larger than 1 MB.
   * @throws ConveyorError as History.head, also if one of them is gone
   */
  commits(repository: string, shas: string[], signal?: AbortSignal): Promise<Map<string, FoundCommit>>
}
