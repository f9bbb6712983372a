import type { Ref } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository, validSha } from '../../core/validate.ts'
import { ofField } from './values.ts'

/** Body of `POST /builds`; `sha` and `ref` are not both null. */
export interface BuildBody {
  repository: string
  /** Full; with `pull`, at least seven digits of it. */
  sha: string | null
  ref: Ref | null
  /** The number of the pull request whose head `sha` is; then there is no `ref`. */
  pull: number | null
  cache: boolean
}

const ACCEPTED =
  'Send a JSON object with `repository` ("owner/name"), `sha` and/or `branch`, or `sha` and `pull` (a number), and optionally `cache` (false) or `NoCache` (true)'

/** Both spellings of each key: lower case, and that of the original API description. */
const KEYS: Record<string, 'repository' | 'sha' | 'branch' | 'pull' | 'cache' | 'NoCache'> = {
  repository: 'repository',
  Repository: 'repository',
  sha: 'sha',
  Sha: 'sha',
  branch: 'branch',
  Branch: 'branch',
  pull: 'pull',
  cache: 'cache',
  NoCache: 'NoCache',
}

/** Parses the body of `POST /builds`. @throws ConveyorError `invalid`, with a hint that lists the accepted keys. */
export function parseBuildBody(text: string): BuildBody {
  const values = new Map<string, unknown>()
  const unknown: string[] = []
  for (const [key, value] of Object.entries(parseObject(text))) {
    const name = Object.hasOwn(KEYS, key) ? KEYS[key] : undefined
    if (name === undefined) unknown.push(key)
    else if (values.has(name)) throw invalid(`${name} is given in both spellings`, name)
    // Clients of the original API send an empty branch with a commit.
    else if (value !== null && value !== '') values.set(name, value)
  }
  if (unknown.length > 0) {
    const keys = unknown.length === 1 ? 'key' : 'keys'
    throw invalid(`unknown ${keys} ${unknown.map(quote).join(', ')}`, unknown[0]?.slice(0, 60))
  }

  if (!values.has('repository')) throw invalid('repository is missing', 'repository')
  if (!values.has('sha') && !values.has('branch')) throw invalid('sha and branch are both missing', 'sha')
  const noCache = flag(values, 'NoCache', false)
  const cache = flag(values, 'cache', !noCache)
  if (cache && noCache) throw invalid('cache and NoCache contradict each other', 'NoCache')
  const pull = values.has('pull') ? pullNumber(values.get('pull')) : null
  if (pull !== null && values.has('branch')) throw invalid('branch and pull exclude each other', 'branch')
  if (pull !== null && !values.has('sha')) throw invalid('pull needs sha, the commit to build', 'sha')
  const validCommit = pull === null ? validSha : validShortSha
  return {
    repository: ofField('repository', () => validRepository(values.get('repository'))),
    sha: values.has('sha') ? ofField('sha', () => validCommit(values.get('sha'))) : null,
    ref: values.has('branch')
      ? { kind: 'branch', name: ofField('branch', () => validRefName(values.get('branch'))) }
      : null,
    pull,
    cache,
  }
}

/** The body that a form of a page stands for. */
export function formAsJson(text: string): string {
  return JSON.stringify(Object.fromEntries(new URLSearchParams(text)))
}

function parseObject(text: string): object {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalid(text.trim() === '' ? 'the body is empty' : 'the body is not valid JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid('the body is not a JSON object')
  }
  return value
}

function flag(values: Map<string, unknown>, name: string, absent: boolean): boolean {
  const value = values.get(name) ?? absent
  if (typeof value !== 'boolean') throw invalid(`${name} must be true or false`, name)
  return value
}

function pullNumber(value: unknown): number {
  // A form of a page sends text.
  const number = typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < 1)
    throw invalid('pull must be the number of a pull request', 'pull')
  return number
}

function validShortSha(value: unknown): string {
  if (typeof value === 'string' && /^[0-9a-f]{7,64}$/i.test(value)) return value.toLowerCase()
  throw new ConveyorError('invalid', 'sha must have at least seven hexadecimal digits')
}

function quote(key: string): string {
  return JSON.stringify(key.slice(0, 60))
}

function invalid(message: string, field?: string): ConveyorError {
  return new ConveyorError('invalid', message, { hint: ACCEPTED, field })
}
