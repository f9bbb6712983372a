import { readFileSync } from 'node:fs'
import { ConveyorError } from '../core/errors.ts'
import { OPTIONS, type Option, type OptionName, type OptionValues } from './options.ts'

/** More than any secret is, and than any file that is given by mistake should take. */
const LARGEST = 64 * 1024

/** Options that are secret, or may have a password in them. */
export const SECRET_OPTIONS = (Object.keys(OPTIONS) as OptionName[]).filter(
  (name) => (OPTIONS[name] as Option).secret !== undefined,
)

/** The variable that names the file of a secret, as those of docker's official images do. */
export const fileVariable = (variable: string): string => `${variable}_FILE`

/**
 * Adds those secrets that are in files, as Docker and Kubernetes hand them out: `GITHUB_TOKEN_FILE=/run/secrets/x`.
 * @param names of the options that are meant; the others of SECRET_OPTIONS are left alone
 * @returns the values with them, and what is wrong, a line each
 */
export function withSecretFiles(
  values: OptionValues,
  names: readonly OptionName[],
  environment: NodeJS.ProcessEnv,
): { values: OptionValues; problems: string[] } {
  const problems: string[] = []
  const added: Record<string, string> = {}
  for (const name of names) {
    const { env } = OPTIONS[name]
    const file = environment[fileVariable(env)]
    if (!file) continue
    const label = `--${name} (${fileVariable(env)})`
    if (environment[env]) problems.push(`${label} is given, and ${env} too: expected one of them`)
    // A flag wins over variables.
    else if (!values[name]) {
      const read = readSecretFile(file)
      if ('text' in read) added[name] = read.text
      else problems.push(`${label} is ${shown(file)}, ${read.problem}: expected a file with the secret`)
    }
  }
  return { values: { ...values, ...added }, problems }
}

/**
 * The secret in the file that the variable's own variable names; undefined where there is none.
 * @throws ConveyorError `invalid`
 */
export function secretInFile(variable: string, environment: NodeJS.ProcessEnv): string | undefined {
  const file = environment[fileVariable(variable)]
  if (!file) return undefined
  const read = readSecretFile(file)
  if ('text' in read) return read.text
  throw new ConveyorError('invalid', `${fileVariable(variable)} is ${shown(file)}, ${read.problem}`)
}

/** What is no path may be the secret itself, given by mistake. */
function shown(file: string): string {
  return /^\.{0,2}\//.test(file) ? JSON.stringify(file) : 'the name of a file'
}

/** The content of a file without the line breaks at its end; or what is wrong with it, which begins with "which". */
function readSecretFile(file: string): { text: string } | { problem: string } {
  let bytes: Buffer
  try {
    bytes = readFileSync(file)
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    const known: Record<string, string> = {
      ENOENT: 'which is not there',
      EACCES: 'which we may not read',
      EISDIR: 'which is a folder',
    }
    return { problem: known[code] ?? `which cannot be read (${code})` }
  }
  if (bytes.length > LARGEST) return { problem: 'which is larger than 64 KiB' }
  const text = bytes.toString('utf8').replace(/[\r\n]+$/, '')
  return text === '' ? { problem: 'which is empty' } : { text }
}
