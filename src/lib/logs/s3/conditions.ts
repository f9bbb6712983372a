import type { StoredText } from './layout.ts'

/** An object is gone: its bytes are in the text now. */
export class MovedError extends Error {}

/** Undefined if there is no such object. A HEAD response has no body to name NoSuchKey. */
export async function unlessMissing<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    if (nameOf(error) === 'NoSuchKey' || nameOf(error) === 'NotFound') return undefined
    throw error
  }
}

/**
 * Undefined if the condition of a write did not hold, or another such write was in progress.
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
 */
export async function unlessRefused<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work()
  } catch (error) {
    const refusals = ['PreconditionFailed', 'ConditionalRequestConflict', 'NoSuchKey']
    if (refusals.includes(nameOf(error))) return undefined
    throw error
  }
}

/** The condition that the text is still the one that its successor was made from. */
export function onlyInsteadOf(text: StoredText | null): { IfMatch: string } | { IfNoneMatch: '*' } {
  return text ? { IfMatch: text.etag } : { IfNoneMatch: '*' }
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : ''
}
