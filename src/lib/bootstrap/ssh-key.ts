import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ConveyorError } from '../core/errors.ts'
import type { BootstrapStep } from './step.ts'

const run = promisify(execFile)

/** File names in the key folder, in the bucket and in the data container. */
export const PRIVATE_KEY = 'id_rsa'
export const PUBLIC_KEY = 'id_rsa.pub'

export interface KeyPair {
  step: BootstrapStep
  /** File of the private key; the public key is in the same folder, with `.pub`. */
  file: string
  privateKey: string
  /** A line with a line break, for GitHub. */
  publicKey: string
}

/**
 * The SSH key pair in `dir`, generated if it does not exist: RSA with 4096 bits, without a passphrase, for unattended
 * use. An existing pair is kept, with a mode that ssh accepts.
 * @throws ConveyorError `invalid` if the two files are not a pair, or the key has a passphrase
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
    const state = made ? 'created' : opened ? 'updated' : 'ok'
    const text = `SSH key ${file}${opened ? ', now readable only by its owner' : ''}`
    return { step: { state, text }, file, privateKey: await readFile(file, 'utf8'), publicKey }
  } catch (error) {
    if (error instanceof ConveyorError) throw error
    throw new ConveyorError('invalid', `cannot use ${file}: ${(error as Error).message}`, {
      cause: error,
    })
  }
}

/** Makes a key readable only by its owner, as ssh requires. */
async function restrict(file: string): Promise<boolean> {
  const { mode } = await stat(file)
  if ((mode & 0o077) === 0) return false
  await chmod(file, 0o600)
  return true
}

/** Content of the public key file, which is written if it does not exist. */
async function publicFile(file: string, publicHalf: string): Promise<string> {
  if (!(await exists(file))) await writeFile(file, publicHalf, { mode: 0o644 })
  const text = await readFile(file, 'utf8')
  if (keyOf(text) !== keyOf(publicHalf)) {
    throw new ConveyorError('invalid', `${file} does not belong to the private key next to it`, {
      hint: 'Remove the wrong one',
    })
  }
  return text
}

/** Type and key, without the comment. */
function keyOf(line: string): string {
  return line.trim().split(/\s+/, 2).join(' ')
}

async function keygen(file: string, args: string[]): Promise<string> {
  try {
    return (await run('ssh-keygen', ['-q', ...args, '-f', file])).stdout
  } catch (error) {
    const { code, stderr = '' } = error as { code?: unknown; stderr?: string }
    if (code === 'ENOENT') {
      throw new ConveyorError('unavailable', 'ssh-keygen not found', {
        hint: 'Install it (apt-get install openssh-client), or provide a key pair',
      })
    }
    const hint = /passphrase/i.test(stderr)
      ? 'Use a key without a passphrase'
      : 'Correct the file, or remove it to generate a new key'
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
    throw new ConveyorError('invalid', `cannot read ${file}: ${why}`, { cause: error })
  }
}
