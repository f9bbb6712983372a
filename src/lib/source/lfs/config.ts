import type { Git, GitOptions } from '../git/git.ts'

/** The settings of a tree's `.lfsconfig` that concern downloads. */
export interface LfsConfig {
  /** Address of the LFS server; null for the one of the repository. */
  url: string | null
  /** Patterns as in .gitignore: only files that match are downloaded. Empty for all. */
  include: string[]
  /** Those that match stay pointers. */
  exclude: string[]
}

/** Larger ones are not read. In bytes. */
export const MAX_LFSCONFIG = 64 * 1024
/** Of what git lists: it repeats the name of a section for each of its lines. In bytes. */
const LONGEST_LIST = 4 * 1024 * 1024

/**
 * Reads an `.lfsconfig`, by git's own parser.
 * @param oid its blob
 * @throws GitFailure if it is malformed
 */
export async function readLfsConfig(git: Git, oid: string, options: GitOptions): Promise<LfsConfig> {
  // Without the files of this machine that it may name.
  const args = ['config', '--blob', oid, '--no-includes', '--null', '--list']
  const output = await git.run(args, { ...options, mostBytes: LONGEST_LIST })
  const last = new Map(
    output
      .toString('utf8')
      .split('\0')
      .map((entry): [string, string] => {
        const [key = '', ...value] = entry.split('\n')
        return [key, value.join('\n')]
      }),
  )
  const patterns = (key: string) =>
    (last.get(key) ?? '')
      .split(',')
      .map((pattern) => pattern.trim())
      .filter((pattern) => pattern !== '')
  return {
    url: last.get('lfs.url') || last.get('remote.origin.lfsurl') || null,
    include: patterns('lfs.fetchinclude'),
    exclude: patterns('lfs.fetchexclude'),
  }
}

/** A `.gitignore` with these patterns, none of which is a comment or an exception. */
export function ignoreFile(patterns: readonly string[]): string {
  return patterns.map((pattern) => `${pattern.replace(/^[#!]/, '\\$&')}\n`).join('')
}
