import { createHash } from 'node:crypto'
import type { BuildRequest } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { validRefName, validRepository, validSha } from '../../core/validate.ts'

/** The contents of a message. */
export interface SqsMessage {
  buildId: string
  /** What to build; only in messages from other senders, which contain the whole request. */
  request?: BuildRequest
}

/**
 * The body of a message: `{"ID": ..., "Repository": ...}`. These are the first two keys of what Conveyor has always
 * sent; the rest of the build is in the store. ASCII only, as SQS does not accept every character.
 */
export function encodeMessage({ buildId, repository }: { buildId: string; repository: string }): string {
  const json = JSON.stringify({ ID: buildId, Repository: repository })
  return json.replace(/[^\x20-\x7e]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * Parses a message: our own, or one with the whole request, `{ID, Repository, Sha, Branch, NoCache}`, where Branch may be
 * empty and NoCache absent. Unknown keys are ignored.
 * @throws ConveyorError `invalid`; its message quotes nothing of the body but the invalid part
 */
export function decodeMessage(body: string | undefined): SqsMessage {
  const message = parse(body)
  const { ID: buildId, Sha: sha, Branch: branch = '', NoCache: noCache = false } = message
  if (typeof buildId !== 'string' || buildId === '') {
    throw new ConveyorError('invalid', 'its ID is missing or not a string')
  }
  if (sha === undefined || sha === '') return { buildId }
  if (typeof noCache !== 'boolean') throw new ConveyorError('invalid', 'its NoCache is not a boolean')
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
    // The message of JSON.parse quotes the body.
    throw new ConveyorError('invalid', 'it is not JSON', { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ConveyorError('invalid', 'it is not a JSON object')
  }
  return value as Record<string, unknown>
}

/** A group or deduplication id: SQS accepts up to 128 ASCII characters, so other texts are hashed. */
export function sqsName(text: string): string {
  return /^[\w./:@-]{1,128}$/.test(text) ? text : createHash('sha256').update(text).digest('hex')
}
