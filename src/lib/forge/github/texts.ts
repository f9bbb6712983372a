import { ConveyorError } from '../../core/errors.ts'

/** A text on one line, without control characters, cut to so many characters. */
export function shortLine(text: string, length: number): string {
  // The rest of a huge text is not needed.
  const line = text.slice(0, 10_000).replace(/[\s\p{Cc}]+/gu, ' ')
  const points = [...line.toWellFormed().trim()]
  if (points.length <= length) return points.join('')
  return `${points
    .slice(0, length - 1)
    .join('')
    .trimEnd()}…`
}

/**
 * The name of an account: of a user, one of Enterprise Managed Users (with an underscore), or an App (`dependabot[bot]`).
 * @throws ConveyorError `invalid`
 */
export function validLogin(value: unknown): string {
  const text = typeof value === 'string' ? value : ''
  if (/^[A-Za-z0-9][\w-]{0,99}(\[bot\])?$/.test(text)) return text
  throw new ConveyorError('invalid', `${JSON.stringify(text.slice(0, 100))} is not an account`)
}
