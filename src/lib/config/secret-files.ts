import { readFileSync } from 'node:fs'
import { ConveyorError } from '../core/errors.ts'
import type { Option } from './option.ts'
import type { OptionValues } from './option-reader.ts'

/** No secret is larger; a larger file was given by mistake. */
const MAX_BYTES = 64 * 1024

/** The variable that names the file of a secret, as for docker's official images. */
export const fileVariable = (variable: string): string => `${variable}_FILE`

/**
 * Adds the secrets that are in files, as Docker and Kubernetes provide them: `GITHUB_TOKEN_FILE=/run/secrets/x`.
 * @param options those that may be in files
 * @returns the values with the secrets, and the problems, a line each
 */
export function withSecretFiles(
  values: OptionValues,
  options: readonly Option[],
  environment: NodeJS.ProcessEnv,
): { values: OptionValues; problems: string[] } {
  const problems: string[] = []
  const added: Record<string, string> = {}
  for (const { flag, env } of options) {
    const file = environment[fileVariable(env)]
    if (!file) continue
    const label = `--${flag} (${fileVariable(env)})`
    if (environment[env]) problems.push(`${label} and ${env} cannot be combined: set only one of them`)
    // A flag takes precedence over variables.
    else if (!values[flag]) {
      const read = readSecretFile(file)
      if ('text' in read) added[flag] = read.text
      else problems.push(`${label} is ${shown(file)}, ${read.problem}: expected a file with the secret`)
    }
  }
  return { values: { ...values, ...added }, problems }
}

/**
 * The secret of a variable in the file that its `_FILE` variable names; undefined without one.
 * @throws ConveyorError `invalid`
 */
export function secretInFile(variable: string, environment: NodeJS.ProcessEnv): string | undefined {
  const file = environment[fileVariable(variable)]
  if (!file) return undefined
  const read = readSecretFile(file)
  if ('text' in read) return read.text
  throw new ConveyorError('invalid', `${fileVariable(variable)} is ${shown(file)}, ${read.problem}`)
}

/** Anything but a path may be the secret itself, given by mistake. */
function shown(file: string): string {
  return /^\.{0,2}\//.test(file) ? JSON.stringify(file) : 'a file name'
}

/** The content of a file without trailing line breaks, or the problem with it, as a clause that begins with "which". */
function readSecretFile(file: string): { text: string } | { problem: string } {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const known: Record<string, string> = {
      ENOENT: 'which does not exist',
      EACCES: 'which is not readable (permission denied)',
      EISDIR: 'which is a directory',
    }
    return { problem: known[code] ?? `which cannot be read (${code})` }
  }
  if (bytes.length > MAX_BYTES) return { problem: 'which is larger than 64 KiB' }
  const text = bytes.toString('utf8').replace(/[\r\n]+$/, '')
  return text === '' ? { problem: 'which is empty' } : { text }
}
