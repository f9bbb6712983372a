import type { CommitInfo } from './build.ts'
import { oneLine } from './one-line.ts'

/** In characters, of each text. */
const LONGEST = 200

/** What a commit says about itself, from its whole message; all of it may be hostile. */
export function commitInfo(message: string, author: string | null, login: string | null): CommitInfo {
  const text = message.slice(0, 10 * LONGEST).trimStart()
  return {
    title: short(text.split('\n', 1)[0] ?? ''),
    author: short(author ?? ''),
    login: login && short(login),
  }
}

function short(text: string): string {
  // Again after the cut, which may split a character.
  return oneLine(oneLine(text.slice(0, 10 * LONGEST)).slice(0, LONGEST))
}
