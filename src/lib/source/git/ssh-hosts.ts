import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** How ssh verifies the host keys of a server. */
export interface SshHosts {
  /** Options for ssh's `-o`. */
  options: string[]
  /** Writes the file that they refer to, if it is missing. */
  prepare?: () => Promise<void>
}

/** Trusts a host key when it is first seen, as `StrictHostKeyChecking=accept-new`. */
export const ACCEPT_NEW = 'accept-new'

/** https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/githubs-ssh-key-fingerprints */
const GITHUB_KEYS = [
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl',
  'ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg=',
  'ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQCj7ndNxQowgcQnjshcLrqPEiiphnt+VTTvDP6mHBL9j1aNUkY4Ue1gvwnGLVlOhGeYrnZaMgRK6+PKCUXaDbC7qtbW8gIkhL7aGCsOr/C56SJMy/BCZfxd1nWzAOxSDPgVsmerOBYfNqltV9/hWCqBywINIR+5dIg6JTJ72pcEpEjcYgXkE2YEFXV1JHnsKgbLWNlhScqb2UmyRkQyytRLtL+38TGxkxCflmO+5Z8CSSNY7GidjMIZ7Q4zMjA2n1nGrlTDkzwDCsw+wqFPGQA179cnfGWOWRVruj16z6XyvxvjJwbz0wQZ75XK5tKSb7FNyeIEs4TT4jk+S4dhPeAUC5y+bDYirYgM4GC7uEnztnZyaVWQ7B381AK4Qdrwt51ZqExKbQpTUNn+EjqoTwvqNj4kqx5QUCI0ThS/YkOxJCXmPUWZbhjpCg56i+2aB6CmK2JGhn57K5mj0MNdBXA4/WnwH6XoPWJzK5Nyu2zB3nAZp+S5hpQs+p1vN1/wsjk=',
]
/** The second name serves ssh on the HTTPS port: https://docs.github.com/en/authentication/troubleshooting-ssh/using-ssh-over-the-https-port */
const GITHUB_NAMES = 'github.com,ssh.github.com,[ssh.github.com]:443'
const GITHUB_FILE = GITHUB_KEYS.map((key) => `${GITHUB_NAMES} ${key}\n`).join('')

/**
 * Selects the accepted host keys: those in a file; or GitHub's published ones; or those that the machine knows and
 * those in a `known_hosts` next to the private key, where containers can have it. All others are refused.
 * @param knownHosts a file, or ACCEPT_NEW
 * @param dir folder for known_hosts files of Conveyor
 */
export function sshHosts(
  host: string,
  { knownHosts, sshKey }: { knownHosts?: string | undefined; sshKey?: string | undefined },
  dir: string,
): SshHosts {
  if (knownHosts === ACCEPT_NEW) {
    return {
      options: [`StrictHostKeyChecking=${ACCEPT_NEW}`, `UserKnownHostsFile="${join(dir, 'known_hosts')}"`],
    }
  }
  const strict = 'StrictHostKeyChecking=yes'
  const only = (file: string) => [strict, `UserKnownHostsFile="${file}"`, 'GlobalKnownHostsFile=/dev/null']
  if (knownHosts !== undefined) return { options: only(knownHosts) }
  if (/^(ssh\.)?github\.com$/i.test(host)) {
    const file = join(dir, 'github_known_hosts')
    return { options: only(file), prepare: () => writeOnce(file, GITHUB_FILE) }
  }
  if (sshKey === undefined) return { options: [strict] }
  const nextToKey = join(dirname(sshKey), 'known_hosts')
  return { options: [strict, `UserKnownHostsFile="${nextToKey}" ~/.ssh/known_hosts`] }
}

/** Written atomically, because ssh of other processes may be reading it. */
async function writeOnce(file: string, content: string): Promise<void> {
  const current = await readFile(file, 'utf8').catch(() => null)
  if (current === content) return
  const temporary = `${file}.${randomUUID()}`
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  await writeFile(temporary, content, { mode: 0o600 })
  await rename(temporary, file)
}
