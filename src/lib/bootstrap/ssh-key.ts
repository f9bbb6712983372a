import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ConveyorError } from '../core/errors.ts'
import type { Step } from './step.ts'

const run = promisify(execFile)

/** Names of the two files, in the folder of the keys, in the bucket and in the data container alike. */
export const PRIVATE_KEY = 'id_rsa'
export const PUBLIC_KEY = 'id_rsa.pub'

export interface KeyPair {
  step: Step
  /** The private key's file; its public half is beside it, with `.pub`. */
  file: string
  privateKey: string
  /** One line, with a line break: what GitHub is given. */
  publicKey: string
}

/**
 * The ssh key pair in `dir`, made when it is not there: RSA with 4096 bits and no passphrase, as nobody is there
 * to type it. A pair that was put there by hand is kept, with a mode that ssh accepts.
 * @throws ConveyorError `invalid` when the two files are not a pair, or the key cannot be used unattended
 */
export async function keyPair(dir: string): Promise<KeyPair> {
  const file = join(dir, PRIVATE_KEY)
  const made = !(await exists(file))
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    if (made) await keygen(file, ['-t', 'rsa', '-b', '4096', '-N', '', '-C', `conveyor@${hostname()}`])
    const opened = await restrict(file)
    const publicHalf = await keygen(file, ['-y', '-P', ''])
    const publicKey = await publicFile(`${file}.pub`, publicHalf)
    const state = made ? 'made' : opened ? 'changed' : 'there'
    const text = `ssh key ${file}${opened ? ', now for its owner only' : ''}`
    return { step: { state, text }, file, privateKey: await readFile(file, 'utf8'), publicKey }
  } catch (error) {
    if (error instanceof ConveyorError) throw error
    throw new ConveyorError('invalid', `${file} cannot be used: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** Takes a key away from others than its owner: ssh refuses it otherwise. */
async function restrict(file: string): Promise<boolean> {
  const { mode } = await stat(file)
  if ((mode & 0o077) === 0) return false
  await chmod(file, 0o600)
  return true
}

/** What is in the public key's file, which is written when it is not there. */
async function publicFile(file: string, publicHalf: string): Promise<string> {
  if (!(await exists(file))) await writeFile(file, publicHalf, { mode: 0o644 })
  const text = await readFile(file, 'utf8')
  if (keyOf(text) !== keyOf(publicHalf)) {
    throw new ConveyorError('invalid', `${file} is not the public half of the key beside it`, {
      hint: 'Remove the one that is wrong',
    })
  }
  return text
}

/** Kind and key, without the comment. */
function keyOf(line: string): string {
  return line.trim().split(/\s+/, 2).join(' ')
}

async function keygen(file: string, args: string[]): Promise<string> {
  try {
    return (await run('ssh-keygen', ['-q', ...args, '-f', file])).stdout
  } catch (error) {
    const { code, stderr = '' } = error as { code?: unknown; stderr?: string }
    if (code === 'ENOENT') {
      throw new ConveyorError('unavailable', 'ssh-keygen was not found', {
        hint: 'Install it (apt-get install openssh-client), or put a key pair there yourself',
      })
    }
    const hint = /passphrase/i.test(stderr)
      ? 'Put a key without a passphrase there: nobody is there to type it'
      : 'Remove the file for a new key, or correct it'
    throw new ConveyorError('invalid', `ssh-keygen cannot use ${file}: ${stderr.trim()}`, { hint })
  }
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    const why = (error as Error).message
    throw new ConveyorError('invalid', `${file} cannot be read: ${why}`, { cause: error })
  }
}
