/**
 * How long a server asks us to wait, in milliseconds; at least 0. It may send seconds or a date.
 * https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
 * @param value of its Retry-After
 * @returns undefined if there is none, or it is neither
 */
export function retryAfterMs(value: string | undefined): number | undefined {
  if (value === undefined) return undefined
  const ms = /^\d{1,12}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}
