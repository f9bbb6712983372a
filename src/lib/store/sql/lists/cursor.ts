import { createHash } from 'node:crypto'
import { ConveyorError } from '../../../core/errors.ts'

/** Bytes of the filter's digest: a cursor is not a secret, only kept from being used with another filter. */
const DIGEST_BYTES = 6
const FORMAT = /^1\.([0-9]{1,16})\.([\w-]{8})(\.sha)?$/

/** Where a page of a list ended. */
export interface Cursor {
  /** Everything from this sequence number on was listed. */
  sequence: number
  /** The list is of the builds whose sha begins with the text. */
  bySha: boolean
}

/** Cursors of one list with one filter: opaque text. */
export class Cursors {
  readonly #digest: string

  /** @param filter the list's name, and what it is filtered by */
  constructor(...filter: (string | undefined)[]) {
    const text = JSON.stringify(filter.map((part) => part ?? null))
    const digest = createHash('sha256').update(text).digest()
    this.#digest = digest.subarray(0, DIGEST_BYTES).toString('base64url')
  }

  /** For the page after the one that ended at a sequence number. */
  write(sequence: number, bySha = false): string {
    return Buffer.from(`1.${sequence}.${this.#digest}${bySha ? '.sha' : ''}`).toString('base64url')
  }

  /** @throws ConveyorError `invalid` if it is not a cursor, or one of another filter */
  read(cursor: string): Cursor {
    const text = Buffer.from(cursor, 'base64url').toString('latin1')
    // The decoder skips what is not base64.
    const isWhole = Buffer.from(text, 'latin1').toString('base64url') === cursor
    const [, sequence, digest, bySha] = (isWhole && FORMAT.exec(text)) || []
    const problem = (what: string) =>
      new ConveyorError('invalid', `cursor ${what}`, {
        field: 'cursor',
        hint: 'Pass the cursor of the previous page unchanged, with the same filter, or leave it out',
      })
    if (sequence === undefined || !Number.isSafeInteger(Number(sequence)))
      throw problem('is not one that this list has returned')
    if (digest !== this.#digest) throw problem('belongs to a list with another filter')
    return { sequence: Number(sequence), bySha: bySha !== undefined }
  }
}
