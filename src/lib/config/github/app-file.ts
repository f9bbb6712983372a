import { closeSync, fchmodSync, openSync, readFileSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { ConveyorError } from '../../core/errors.ts'
import type { OptionValues } from '../option-reader.ts'
import { GITHUB } from '../options/github.ts'

/** The GitHub App that was made on the server's page: a JSON object of variables and their values. */
export function appFile(dataDir: string): string {
  return join(dataDir, 'github-app.json')
}

/** What the file has, by option. */
const OPTIONS = {
  id: GITHUB.appId,
  privateKey: GITHUB.privateKey,
  clientId: GITHUB.clientId,
  clientSecret: GITHUB.clientSecret,
  webhookSecret: GITHUB.secret,
}
type Kept = Partial<Record<keyof typeof OPTIONS, string | null>>

/**
 * Adds the App of the data directory to the values of options, unless they name a token or an App of their own. A value
 * that is given takes precedence over the file's.
 * @returns the values, the flags of those that the file has, and what is wrong with the file, a line each
 */
export function withAppFile(
  values: OptionValues,
  dataDir: string,
): { values: OptionValues; inFile: ReadonlySet<string>; problems: string[] } {
  const none = { values, inFile: new Set<string>(), problems: [] }
  const isGiven = ({ flag }: { flag: string }) => Boolean(values[flag])
  if ([GITHUB.token, GITHUB.appId, GITHUB.privateKey].some(isGiven)) return none
  const file = appFile(dataDir)
  let kept: unknown
  try {
    kept = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // ENOTDIR: a parent of the data directory is a file, which is reported elsewhere.
    if (code === 'ENOENT' || code === 'ENOTDIR') return none
    const why = code === undefined ? 'is not JSON' : `cannot be read (${code})`
    return {
      ...none,
      problems: [`the GitHub App in ${JSON.stringify(file)} ${why}: restore or remove the file`],
    }
  }
  const all = Object.values(OPTIONS).filter((option) => !isGiven(option))
  const found = all
    .map(({ flag, env }) => [flag, (kept as Record<string, unknown> | null)?.[env]] as const)
    .filter(([, value]) => value !== undefined)
  return {
    values: { ...values, ...Object.fromEntries(found) },
    inFile: new Set(found.map(([flag]) => flag)),
    problems: [],
  }
}

/** A file that only its owner may read, and that was not there before. */
export interface NewAppFile {
  /** Writes the App. @throws ConveyorError `unavailable` */
  write(app: Kept): void
  /** Removes the file. */
  discard(): void
}

/** @throws ConveyorError `invalid` if there is one already, `unavailable` if it cannot be created */
export function createAppFile(dataDir: string): NewAppFile {
  const file = appFile(dataDir)
  const fail = (error: unknown) => {
    const { code = 'unknown' } = error as NodeJS.ErrnoException
    if (code === 'EEXIST') {
      return new ConveyorError('invalid', `there is a GitHub App already, in ${file}`, {
        hint: 'Remove the file to make another one',
      })
    }
    return new ConveyorError('unavailable', `cannot write ${file} (${code})`, { retryable: false })
  }
  let descriptor: number
  try {
    descriptor = openSync(file, 'wx', 0o600)
    fchmodSync(descriptor, 0o600)
  } catch (error) {
    throw fail(error)
  }
  return {
    write(app) {
      const pairs = Object.entries(app) as [keyof typeof OPTIONS, string | null][]
      const values = Object.fromEntries(
        pairs.filter(([, value]) => value !== null).map(([key, value]) => [OPTIONS[key].env, value]),
      )
      try {
        writeSync(descriptor, `${JSON.stringify(values, null, 2)}\n`)
        closeSync(descriptor)
      } catch (error) {
        throw fail(error)
      }
    },
    discard() {
      closeSync(descriptor)
      unlinkSync(file)
    },
  }
}
