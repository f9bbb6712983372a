import { userInfo } from 'node:os'
import { dirname, join } from 'node:path'

/** What fits into sockaddr_un on Linux, without the final null, in bytes. Longer paths are cut off silently. */
const MAX_SOCKET_PATH = 107

/** The socket on which a server that has this SQLite database manages tokens, in a folder of its own. */
export function adminSocketOf(databaseFile: string): string {
  return join(dirname(databaseFile), 'admin', 'sock')
}

/** Why no socket can have this path, or null. */
export function socketPathProblem(path: string): string | null {
  const length = Buffer.byteLength(path)
  if (length <= MAX_SOCKET_PATH) return null
  return `the path ${path} has ${length} bytes, and a Unix socket can have ${MAX_SOCKET_PATH}; choose a shorter --data-dir`
}

/** The name of the user that this process runs as, or its number: containers often have no name for it. */
export function operatingUser(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`
  }
}
