import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ConveyorError } from '../../core/errors.ts'
import { addNewest } from '../../util/collections/keep-newest.ts'

const LIFE_MS = 3_600_000
/** Nobody makes so many Apps in an hour. */
const MOST_USED = 1000

/**
 * Proves that who comes back from GitHub is who went there from a page of this server within the hour. Any server with the
 * same key accepts it, and this one only once.
 */
export class SetupStates {
  readonly #key: Uint8Array
  readonly #now: () => number
  readonly #used = new Set<string>()

  constructor(key: Uint8Array, now: () => number = Date.now) {
    this.#key = key
    this.#now = now
  }

  create(user: string): string {
    const text = `${this.#now() + LIFE_MS}.${randomBytes(16).toString('base64url')}`
    return `${text}.${this.#sign(text, user)}`
  }

  /** @throws ConveyorError `invalid` */
  use(state: unknown, user: string): void {
    const [, text = '', end = '', signature = ''] =
      /^((\d{1,16})\.[\w-]{22})\.([\w-]{43})$/.exec(String(state)) ?? []
    const isOurs = signature !== '' && isSame(signature, this.#sign(text, user))
    if (!isOurs || Number(end) < this.#now() || this.#used.has(text)) {
      throw new ConveyorError('invalid', 'this is not the answer to a form of this page, or an old one', {
        field: 'state',
        hint: 'Begin again at /setup',
      })
    }
    addNewest(this.#used, text, MOST_USED)
  }

  #sign(text: string, user: string): string {
    return createHmac('sha256', this.#key).update(`${text}.${user}`).digest('base64url')
  }
}

function isSame(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}
