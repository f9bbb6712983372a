import { ConveyorError } from '../../../core/errors.ts'

/** Entries of a page of a list. */
export const PER_PAGE = 50

/** A position in a list: the cursor of this page, absent for the newest, and those of newer pages, newest first. */
export interface PagePosition {
  cursor?: string
  newer: readonly string[]
}

/** The values of a query, each given once; empty ones are absent, as forms send all fields. */
export class Query {
  readonly #values: Record<string, unknown>

  constructor(values: unknown) {
    this.#values = values as Record<string, unknown>
  }

  /** @throws ConveyorError `invalid` if it is given twice, or longer than 2000 characters */
  text(name: string): string | undefined {
    const value = Object.hasOwn(this.#values, name) ? this.#values[name] : undefined
    if (value === undefined) return undefined
    if (typeof value !== 'string') throw new ConveyorError('invalid', `${name} is given more than once`)
    if (value.length > 2000) throw new ConveyorError('invalid', `${name} is too long`)
    return value.trim() || undefined
  }

  place(): PagePosition {
    const cursor = this.text('cursor')
    return { ...(cursor && { cursor }), newer: this.text('newer')?.split(' ') ?? [] }
  }
}
