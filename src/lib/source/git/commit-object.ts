import { type CommitInfo, commitInfo } from '../../core/build.ts'
import { GitFailure } from './git.ts'

/** What is read from a commit object. */
export interface CommitFacts {
  tree: string
  /** ISO 8601, UTC; clamped to the years 1970 to 9999. */
  committedAt: string
  info: CommitInfo
  /** Its whole message, but at most 16 kB. */
  message: string
}

/** @throws GitFailure if it is none */
export function parseCommit(object: Buffer): CommitFacts {
  // The header ends at the first empty line; names in it and the message after it may have any encoding.
  const end = object.indexOf('\n\n') + 1
  const header = object.subarray(0, end).toString('latin1')
  const tree = /^tree ([0-9a-f]+)$/m.exec(header)?.[1]
  const seconds = /^committer .* (-?\d+) [+-]\d+$/m.exec(header)?.[1]
  if (!tree || !seconds) throw new GitFailure('cat-file', 'returned no commit', 'bad object')
  const decode = decoderOf(/^encoding (.+)$/m.exec(header)?.[1])
  const author = /^author (.*?) ?<.*$/m.exec(header)?.[1] ?? ''
  const message = decode(object.subarray(end + 1, end + 1 + MESSAGE_BYTES))
  const info = commitInfo(message, decode(Buffer.from(author, 'latin1')), null)
  return { tree, committedAt: dateOf(Number(seconds)), info, message }
}

/** Only the beginning of a message is needed. */
const MESSAGE_BYTES = 16 * 1024

/** Decodes the texts of a commit, which says what encoding they have; UTF-8 if it does not, or it is unknown. */
function decoderOf(encoding: string | undefined): (bytes: Uint8Array) => string {
  let decoder = new TextDecoder()
  try {
    if (encoding !== undefined) decoder = new TextDecoder(encoding)
  } catch {
    // No encoding of this name.
  }
  return (bytes) => decoder.decode(bytes)
}

/** The last second that date formats and image configs can represent: 9999-12-31T23:59:59Z. */
const MAX_SECONDS = 253_402_300_799

/** Clamped: a commit can have any date. */
function dateOf(seconds: number): string {
  return new Date(Math.min(Math.max(seconds, 0), MAX_SECONDS) * 1000).toISOString()
}
