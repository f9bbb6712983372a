import { createHash } from 'node:crypto'
import type { BuildRequest } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository, validSha } from '../../core/validate.ts'

/** What a message says. */
export interface SqsMessage {
  buildId: string
  /** What to build; in messages of other senders, which put all of it in. */
  request?: BuildRequest
}

/**
 * The body of a message: `{"ID": ..., "Repository": ...}`. These are the first two keys of what Conveyor has
 * always sent; all the rest of the build is in the store. ASCII only, as SQS does not take every character.
 */
export function encodeMessage({ buildId, repository }: { buildId: string; repository: string }): string {
  const json = JSON.stringify({ ID: buildId, Repository: repository })
  return json.replace(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * Reads a message: our own, or one with the whole request, `{ID, Repository, Sha, Branch, NoCache}`, where
 * Branch may be empty and NoCache absent. Unknown keys are ignored.
 * @throws ConveyorError `invalid`; its message shows nothing of the body but the part that is wrong
 */
export function decodeMessage(body: string | undefined): SqsMessage {
  const message = parse(body)
  const { ID: buildId, Sha: sha, Branch: branch = '', NoCache: noCache = false } = message
  if (typeof buildId !== 'string' || buildId === '') {
    throw new ConveyorError('invalid', 'it has no ID, or one that is not a string')
  }
  if (sha === undefined || sha === '') return { buildId }
  if (typeof noCache !== 'boolean')
    throw new ConveyorError('invalid', 'its NoCache is neither true nor false')
  const request: BuildRequest = {
    repository: validRepository(message.Repository),
    sha: validSha(sha),
    ref: branch === '' || branch === null ? null : { kind: 'branch', name: validRefName(branch) },
    defaultBranch: null,
    cache: !noCache,
    source: { kind: 'api' },
  }
  return { buildId, request }
}

function parse(body: string | undefined): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(body ?? '')
  } catch (cause) {
    // The reason that JSON.parse gives quotes the body.
    throw new ConveyorError('invalid', 'it is not JSON', { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConveyorError('invalid', 'it is not a JSON object')
  }
  return value as Record<string, unknown>
}

/** A name for a group or for deduplication: SQS takes 128 characters of ASCII, so others are hashed. */
export function sqsName(text: string): string {
  return /^[\w./:@-]{1,128}$/.test(text) ? text : createHash('sha256').update(text).digest('hex')
}
