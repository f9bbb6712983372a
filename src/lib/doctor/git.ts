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

/** The oldest that Conveyor is tested with. */
const OLDEST = '2.39'
const INSTALL_SSH = 'Install openssh-client, or fetch over https (--git.url)'

/** git, and how it gets to repositories. No repository is known yet, so none is asked for. */
export function gitChecks(config: Config): Check[] {
  const git = new Git(config.git.environment, config.dataDir)
  return [
    { part: 'git', ask: (signal) => version(git, signal) },
    { part: 'repositories', ask: (signal) => transport(git, config, signal) },
  ]
}

async function version(git: Git, signal: AbortSignal): Promise<Finding> {
  const said = (await git.run(['version'], { signal })).toString().trim()
  return isAtLeast(OLDEST, said) ? ok(said) : broken(`${said} is too old`, `Install git ${OLDEST} or newer`)
}

async function transport(
  git: Git,
  { git: { url, sshKey, knownHosts, environment }, github, dataDir }: Config,
  signal: AbortSignal,
) {
  const token = github.token ?? undefined
  const remote = remoteOf({ url, token, ...(sshKey ? { sshKey } : {}) }, dataDir)
  if (/^https?:/.test(url)) {
    const folder = (await git.run(['--exec-path'], { signal })).toString().trim()
    if (!(await isThere(join(folder, 'git-remote-http')))) {
      return broken(
        `git has no git-remote-http for ${url}`,
        'Install the rest of git, or fetch over ssh (--git.url)',
      )
    }
    return ok(`${url}, ${remote.authenticated ? 'with the GitHub token' : 'public ones only'}`)
  }
  if (url.startsWith('file:')) return ok(`${url}, on this machine`)
  const PATH = environment.PATH ?? ''
  if (!(await runs('ssh', ['-V'], PATH, signal))) return broken(`there is no ssh for ${url}`, INSTALL_SSH)
  if (knownHosts !== null && knownHosts !== ACCEPT_NEW && !(await isThere(knownHosts, constants.R_OK))) {
    return broken(
      `--git.known-hosts (GIT_KNOWN_HOSTS) ${knownHosts} cannot be read`,
      `Correct its path, or give ${ACCEPT_NEW}`,
    )
  }
  if (sshKey !== null) return key(url, sshKey, PATH, signal)
  return ok(`${url}, with ${environment.SSH_AUTH_SOCK ? 'the ssh agent' : 'the keys that ssh finds itself'}`)
}

/** ssh says of a key that it will not use only that the server refuses us. */
async function key(url: string, file: string, PATH: string, signal: AbortSignal): Promise<Finding> {
  const name = `--git.ssh-key (GIT_SSH_KEY) ${file}`
  const status = await stat(file).catch(() => null)
  if (!status?.isFile()) return broken(`${name} cannot be found`, 'Correct its path')
  if (!(await isThere(file, constants.R_OK))) {
    return broken(
      `${name} cannot be read`,
      `Make it belong to the user that Conveyor runs as: chown ${process.getuid?.()} ${file}`,
    )
  }
  if (status.uid === process.getuid?.() && status.mode & 0o077) {
    return broken(`others may read ${name}, so ssh does not use it`, `Take that from them: chmod 600 ${file}`)
  }
  if (!(await runs('ssh-keygen', ['-y', '-P', '', '-f', file], PATH, signal))) {
    return broken(
      `${name} is no private key, or has a passphrase`,
      'Give one without: nobody is there to type it',
    )
  }
  return ok(`${url}, with the key ${file}`)
}

function isThere(file: string, mode?: number): Promise<boolean> {
  return access(file, mode).then(
    () => true,
    () => false,
  )
}

/** Whether a program is there and ends well. */
function runs(program: string, args: string[], PATH: string, signal: AbortSignal): Promise<boolean> {
  return promisify(execFile)(program, args, { env: { PATH }, signal }).then(
    () => true,
    () => false,
  )
}
