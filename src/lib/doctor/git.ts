import { execFile } from 'node:child_process'
import { access, constants, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Config } from '../config/config.ts'
import { Git } from '../source/git/git.ts'
import { remoteOf } from '../source/git/remote.ts'
import { ACCEPT_NEW } from '../source/git/ssh-hosts.ts'
import { isAtLeast } from '../util/versions.ts'
import { broken, type Check, type Finding, ok } from './check.ts'

/** The oldest version that Conveyor is tested with. */
const OLDEST = '2.39'
const INSTALL_SSH = 'Install openssh-client, or fetch over HTTPS (--git.url)'

/** Checks git and its transport. Does not contact the git server: no repository is known yet. */
export function gitChecks(config: Config): Check[] {
  const git = new Git(config.git.environment, config.dataDir)
  return [
    { part: 'git', run: (signal) => version(git, signal) },
    { part: 'repositories', run: (signal) => transport(git, config, signal) },
  ]
}

async function version(git: Git, signal: AbortSignal): Promise<Finding> {
  const found = (await git.run(['version'], { signal })).toString().trim()
  return isAtLeast(OLDEST, found)
    ? ok(found)
    : broken(`${found} is too old`, `Install git ${OLDEST} or newer`)
}

async function transport(
  git: Git,
  { git: { url, sshKey, knownHosts, environment }, github, dataDir }: Config,
  signal: AbortSignal,
) {
  const token = github.app ? async () => undefined : (github.token ?? undefined)
  const whose = github.app ? 'tokens of the GitHub App' : 'the GitHub token'
  const remote = remoteOf({ url, token, ...(sshKey ? { sshKey } : {}) }, dataDir)
  if (/^https?:/.test(url)) {
    const folder = (await git.run(['--exec-path'], { signal })).toString().trim()
    if (!(await exists(join(folder, 'git-remote-http')))) {
      return broken(
        `git has no git-remote-http for ${url}`,
        'Install a git with HTTP support, or fetch over SSH (--git.url)',
      )
    }
    return ok(`${url}, ${remote.authenticated ? `with ${whose}` : 'public repositories only'}`)
  }
  if (url.startsWith('file:')) return ok(`${url}, on this machine`)
  const PATH = environment.PATH ?? ''
  if (!(await runs('ssh', ['-V'], PATH, signal)))
    return broken(`ssh is not installed, but required for ${url}`, INSTALL_SSH)
  if (knownHosts !== null && knownHosts !== ACCEPT_NEW && !(await exists(knownHosts, constants.R_OK))) {
    return broken(
      `--git.known-hosts (GIT_KNOWN_HOSTS) ${knownHosts} cannot be read`,
      `Correct its path, or set it to ${ACCEPT_NEW}`,
    )
  }
  if (sshKey !== null) return key(url, sshKey, PATH, signal)
  return ok(`${url}, with ${environment.SSH_AUTH_SOCK ? 'the SSH agent' : 'the default SSH keys'}`)
}

/** Checked here, because ssh reports an unusable key only as a refusal by the server. */
async function key(url: string, file: string, PATH: string, signal: AbortSignal): Promise<Finding> {
  const name = `--git.ssh-key (GIT_SSH_KEY) ${file}`
  const status = await stat(file).catch(() => null)
  if (!status?.isFile()) return broken(`${name} not found`, 'Correct its path')
  if (!(await exists(file, constants.R_OK))) {
    return broken(
      `${name} cannot be read`,
      `Make the user that Conveyor runs as its owner: chown ${process.getuid?.()} ${file}`,
    )
  }
  if (status.uid === process.getuid?.() && status.mode & 0o077) {
    return broken(`${name} is readable by other users, so ssh ignores it`, `Restrict it: chmod 600 ${file}`)
  }
  if (!(await runs('ssh-keygen', ['-y', '-P', '', '-f', file], PATH, signal))) {
    return broken(
      `${name} is not a private key, or has a passphrase`,
      'Use a private key without a passphrase',
    )
  }
  return ok(`${url}, with the key ${file}`)
}

function exists(file: string, mode?: number): Promise<boolean> {
  return access(file, mode).then(
    () => true,
    () => false,
  )
}

/** Whether a program exists and exits with status 0. */
function runs(program: string, args: string[], PATH: string, signal: AbortSignal): Promise<boolean> {
  return promisify(execFile)(program, args, { env: { PATH }, signal }).then(
    () => true,
    () => false,
  )
}
