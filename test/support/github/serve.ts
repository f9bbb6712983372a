import type { Asker } from './checks.ts'
import type { Answer } from './protocol.ts'

/** @returns the content of the file, or null if there is no such file */
export type FileReader = (repository: string, sha: string, path: string) => Promise<string | null>

/** @returns how `head` relates to `base`, or null if there is no such commit */
export type Comparer = (
  repository: string,
  base: string,
  head: string,
) => Promise<'ahead' | 'behind' | 'identical' | 'diverged' | null>

export interface Repository {
  /** In its original case. */
  name: string
  defaultBranch: string | undefined
  heads: Map<string, string>
  archived: boolean
}

/** Serves one operation. @param example GitHub's example of a response with that status */
export type Serve = (
  about: Asker,
  body: unknown,
  example: (status: number) => Record<string, unknown>,
) => Answer | Promise<Answer>
