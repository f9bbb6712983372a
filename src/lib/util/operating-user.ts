import { userInfo } from 'node:os'

/** The name of the user that this process runs as, or its number: containers often have no name for it. */
export function operatingUser(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`
  }
}
