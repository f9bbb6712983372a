import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import ssh2 from 'ssh2'
import { tempDir } from '../temp.ts'
import { gitEnv } from './repository.ts'

/** An ssh server that allows any key to run `git upload-pack` on the repositories below a folder, and nothing else. */
export interface SshServer extends AsyncDisposable {
  readonly port: number
  /** `ssh://git@127.0.0.1:PORT/{repository}.git` */
  readonly urlTemplate: string
  /** Its line in known_hosts. */
  readonly knownHosts: string
  /** How many clients reached authentication, which follows the check of the host key. */
  readonly logins: number
  /** Other commands that were run. */
  readonly commands: string[]
}

const run = promisify(execFile)

/**
 * @param root folder with `owner/name.git`
 * @param answers to other commands; undefined: there is no such command
 */
export async function startSshServer(
  root: string,
  answers: (command: string) => string | undefined = () => undefined,
): Promise<SshServer> {
  const dir = await tempDir('conveyor-ssh-')
  const keyFile = join(dir.path, 'host_key')
  await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', keyFile])
  const [type, key] = (await readFile(`${keyFile}.pub`, 'utf8')).split(' ')
  let logins = 0
  const commands: string[] = []
  const server = new ssh2.Server({ hostKeys: [await readFile(keyFile)] }, (client) => {
    client.on('error', () => {}) // ssh closes the connection if it does not know the host key
    client.on('authentication', (context) => {
      logins++
      context.accept()
    })
    client.on('session', (accept) => {
      accept().on('exec', (acceptExec, _reject, { command }) => {
        const name = /^git-upload-pack '\/?([\w-]+\/[\w-]+)\.git'$/.exec(command)?.[1]
        if (!name) {
          commands.push(command)
          const answer = answers(command)
          const other = acceptExec()
          if (answer === undefined) other.stderr.write('command not found\n')
          else other.write(answer)
          other.exit(answer === undefined ? 127 : 0)
          return other.end()
        }
        const channel = acceptExec()
        const git = spawn('git', ['upload-pack', join(root, `${name}.git`)], { env: gitEnv() })
        channel.pipe(git.stdin)
        git.stdout.pipe(channel, { end: false })
        git.once('close', (code) => {
          channel.exit(code ?? 1)
          channel.end()
        })
      })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    port,
    commands,
    urlTemplate: `ssh://git@127.0.0.1:${port}/{repository}.git`,
    knownHosts: `[127.0.0.1]:${port} ${type} ${key}\n`,
    get logins() {
      return logins
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      await closed
      await dir[Symbol.asyncDispose]()
    },
  }
}
