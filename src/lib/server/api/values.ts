import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import { ConveyorError } from '../../core/errors.ts'

/** What the schemas of query parameters use of JSON Schema. `x-must` completes the message about a bad value. */
interface ValueSchema {
  type?: 'string' | 'integer' | 'boolean'
  enum?: readonly string[]
  pattern?: string
  format?: string
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  default?: unknown
  'x-must'?: string
}

/**
 * Fastify's validation of requests. Query parameters are parsed by their schema; an unknown one is ignored. Bodies and
 * path parameters are parsed by the code of their routes, whose messages are better, and have schemas only for the
 * documentation.
 */
const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  if (httpPart !== 'querystring') return (value: unknown) => ({ value })
  const { properties = {}, required = [] } = schema as {
    properties?: Record<string, ValueSchema>
    required?: string[]
  }
  return (query: unknown) => {
    const given = query as Record<string, string | string[] | undefined>
    try {
      return { value: parseQuery(given, properties, required) }
    } catch (error) {
      return { error: error as Error }
    }
  }
}

/**
 * Schemas describe responses and never change them. Without this, Fastify would load Ajv and fast-json-stringify.
 */
export const SCHEMAS = {
  compilersFactory: {
    // Typed for Ajv only.
    buildValidator: () => validatorCompiler as never,
    buildSerializer: () => () => JSON.stringify,
  },
}

function parseQuery(
  given: Record<string, string | string[] | undefined>,
  properties: Record<string, ValueSchema>,
  required: readonly string[],
): Record<string, unknown> {
  const parsed: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(properties)) {
    const text = Object.hasOwn(given, name) ? given[name] : undefined
    if (Array.isArray(text)) throw invalid(name, 'is given more than once')
    if (text === undefined || text === '') {
      if (schema.default !== undefined) parsed[name] = schema.default
      else if (required.includes(name)) throw invalid(name, 'is missing')
    } else {
      parsed[name] = parseValue(name, schema, text)
    }
  }
  return parsed
}

/** Parses text by a schema of a string, an integer or a boolean. @throws ConveyorError `invalid` with the field */
export function parseValue(name: string, schema: object, text: string): unknown {
  const value = fromText(schema, text)
  if (value === undefined) throw invalid(name, `must ${requirement(schema)}`)
  return value
}

/** Names the field in the error of a parser. */
export function ofField<T>(field: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof ConveyorError) || error.kind !== 'invalid') throw error
    const { message, hint, cause } = error
    throw new ConveyorError('invalid', message, { field, cause, ...(hint !== undefined && { hint }) })
  }
}

function fromText(schema: ValueSchema, text: string): unknown {
  if (schema.type === 'boolean') return text === 'true' ? true : text === 'false' ? false : undefined
  if (schema.type === 'integer') {
    const { minimum = 0, maximum = 1e15 } = schema
    const value = /^\d{1,15}$/.test(text) ? Number(text) : -1
    return value >= minimum && value <= maximum ? value : undefined
  }
  const { minLength = 0, maxLength = 1000, pattern, format } = schema
  const fits = text.length >= minLength && text.length <= maxLength
  if (!fits || (schema.enum && !schema.enum.includes(text))) return undefined
  if (pattern !== undefined && !new RegExp(pattern, 'u').test(text)) return undefined
  if (format === 'date-time' && !isTime(text)) return undefined
  return text
}

function isTime(text: string): boolean {
  return (
    /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/i.test(text) &&
    !Number.isNaN(Date.parse(text))
  )
}

function requirement(schema: ValueSchema): string {
  const { type, minimum = 0, maximum, maxLength = 1000, minLength = 0 } = schema
  if (schema['x-must']) return schema['x-must']
  if (schema.enum) return `be one of ${schema.enum.join(', ')}`
  if (type === 'boolean') return 'be true or false'
  if (type === 'integer') {
    return maximum === undefined
      ? `be a whole number, ${minimum} or greater`
      : `be a whole number from ${minimum} to ${maximum}`
  }
  if (schema.format === 'date-time') return 'be a date, such as 2026-03-01 or 2026-03-01T12:00:00Z'
  if (schema.pattern) return `match ${schema.pattern}`
  return `have ${minLength} to ${maxLength} characters`
}

function invalid(field: string, message: string): ConveyorError {
  return new ConveyorError('invalid', `${field} ${message}`, { field })
}
