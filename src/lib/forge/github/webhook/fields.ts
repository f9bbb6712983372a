import { ConveyorError } from '../../../core/errors.ts'

/**
 * Reads fields of one JSON object by name; an error names the event and the whole path, as in
 * `push payload: repository.fork`.
 */
export interface Fields {
  text(name: string): string
  /** Null also if the field is missing. */
  textOrNull(name: string): string | null
  /** A text that a check of validate.ts accepts. */
  valid<T>(name: string, check: (value: string) => T): T
  /** The same; null also if the field is missing. */
  validOrNull<T>(name: string, check: (value: string) => T): T | null
  flag(name: string): boolean
  /** A positive integer, such as an id or the number of a pull request. */
  number(name: string): number
  /** Seconds since 1970, which GitHub sends as a number in pushes and as a date elsewhere. */
  secondsOrNull(name: string): number | null
  object(name: string): Fields
  objectOrNull(name: string): Fields | null
  /** Null unless it is a text that is not empty. */
  anyText(name: string): string | null
  /** Null unless it is a positive integer. */
  anyNumber(name: string): number | null
  /** Without fields unless it is an object. */
  anyObject(name: string): Fields
}

/** @throws ConveyorError `invalid` if the payload of the event is not an object */
export function fieldsOf(event: string, payload: unknown): Fields {
  return asObject(payload, { event, path: '' })
}

/** Without fields unless it is an object. */
export function anyFieldsOf(payload: unknown): Fields {
  return asAnyObject(payload, { event: '', path: '' })
}

/** Where a value is. */
interface Place {
  event: string
  path: string
}

function asObject(value: unknown, place: Place): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(place, value, 'an object')
  const at = (name: string): Place => ({ ...place, path: place.path ? `${place.path}.${name}` : name })
  // Own properties only: a field must come from the payload, never from a prototype.
  const get = (name: string): unknown =>
    Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
  const text = (name: string) => {
    const field = get(name)
    if (typeof field !== 'string') throw wrong(at(name), field, 'a string')
    return field
  }
  const valid = <T>(name: string, check: (value: string) => T) => checked(at(name), text(name), check)
  const anyNumber = (name: string) => {
    const field = get(name)
    return typeof field === 'number' && Number.isSafeInteger(field) && field > 0 ? field : null
  }
  return {
    text,
    textOrNull: (name) => (get(name) == null ? null : text(name)),
    valid,
    validOrNull: (name, check) => (get(name) == null ? null : valid(name, check)),
    flag(name) {
      const field = get(name)
      if (typeof field !== 'boolean') throw wrong(at(name), field, 'true or false')
      return field
    },
    number(name) {
      const number = anyNumber(name)
      if (number === null) throw wrong(at(name), get(name), 'a positive integer')
      return number
    },
    secondsOrNull(name) {
      const field = get(name) ?? null
      const seconds = typeof field === 'string' ? Math.floor(Date.parse(field) / 1000) : field
      if (seconds === null) return null
      if (typeof seconds !== 'number' || !Number.isSafeInteger(seconds) || seconds < 0)
        throw wrong(at(name), field, 'a time')
      return seconds
    },
    object: (name) => asObject(get(name), at(name)),
    objectOrNull: (name) => (get(name) === null ? null : asObject(get(name), at(name))),
    anyText(name) {
      const field = get(name)
      return typeof field === 'string' && field !== '' ? field : null
    },
    anyNumber,
    anyObject: (name) => asAnyObject(get(name), at(name)),
  }
}

function asAnyObject(value: unknown, place: Place): Fields {
  return asObject(typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}, place)
}

/** Runs a check of validate.ts on a field, and adds the field's path to its error. */
function checked<T>({ event, path }: Place, value: string, check: (value: string) => T): T {
  try {
    return check(value)
  } catch (error) {
    if (!(error instanceof ConveyorError)) throw error
    throw new ConveyorError('invalid', `${event} payload: ${path}: ${error.message}`)
  }
}

/** The header X-GitHub-Delivery. @throws ConveyorError `invalid` */
export function validDelivery(delivery: string): string {
  if (/^[\x21-\x7e]{1,200}$/.test(delivery)) return delivery
  throw new ConveyorError('invalid', `the header X-GitHub-Delivery is ${show(delivery)}, not a delivery id`)
}

function wrong({ event, path }: Place, value: unknown, expected: string): ConveyorError {
  const where = path ? `${event} payload: ${path}` : `${event} payload`
  return new ConveyorError(
    'invalid',
    value === undefined ? `${where} is missing` : `${where} is ${show(value)}, not ${expected}`,
  )
}

/** A value for a message: short, and on one line. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return 'an array'
  if (typeof value === 'object' && value !== null) return 'an object'
  if (typeof value !== 'string') return String(value)
  return JSON.stringify(value.length > 100 ? `${value.slice(0, 100)}...` : value)
}
