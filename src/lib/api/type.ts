import type { TNull, TObject, TProperties, TSchema, TUnion, Type as TypeBox } from 'typebox'

/**
 * The builders of TypeBox that schemas here need, with its types but without loading it: it would cost every process
 * 20 MB. `test/server/api/type.test.ts` compares what they build with TypeBox itself.
 */
export const Type = {
  String: (options?: object) => kind('String', { type: 'string', ...options }),
  Integer: (options?: object) => kind('Integer', { type: 'integer', ...options }),
  Number: (options?: object) => kind('Number', { type: 'number', ...options }),
  Boolean: (options?: object) => kind('Boolean', { type: 'boolean', ...options }),
  Null: (options?: object) => kind('Null', { type: 'null', ...options }),
  Unknown: (options?: object) => kind('Unknown', { ...options }),
  Enum: (values: unknown[], options?: object) => kind('Enum', { enum: values, ...options }),
  Literal: (value: unknown, options?: object) =>
    kind('Literal', { type: typeof value, const: value, ...options }),
  Array: (items: object, options?: object) => kind('Array', { type: 'array', items, ...options }),
  Union: (anyOf: object[], options?: object) => kind('Union', { anyOf, ...options }),
  Optional: (schema: object) => hidden({ ...schema }, { ...hiddenOf(schema), '~optional': true }),
  Object: (properties: object, options?: object) => {
    const names = Object.entries(properties).filter(([, schema]) => !('~optional' in schema))
    const required = names.length > 0 && { required: names.map(([name]) => name) }
    return kind('Object', { type: 'object', ...required, properties, ...options })
  },
} as unknown as Pick<
  typeof TypeBox,
  | 'String'
  | 'Integer'
  | 'Number'
  | 'Boolean'
  | 'Null'
  | 'Unknown'
  | 'Enum'
  | 'Literal'
  | 'Array'
  | 'Union'
  | 'Optional'
  | 'Object'
>

export type { Static } from 'typebox'

/** A value or null. */
export function nullable<T extends TSchema>(schema: T): TUnion<[T, TNull]> {
  return Type.Union([schema, Type.Null()])
}

/**
 * An object with these properties and no others. The API's description lists it under its name, once, wherever it
 * occurs.
 */
export function named<P extends TProperties>(name: string, properties: P, options: object = {}): TObject<P> {
  return Type.Object(properties, { title: name, additionalProperties: false, ...options })
}

/** TypeBox's own marks, which JSON does not show. */
function kind(name: string, schema: object): object {
  return hidden(schema, { '~kind': name })
}

function hiddenOf(schema: object): Record<string, unknown> {
  const marks = Object.entries(Object.getOwnPropertyDescriptors(schema)).filter(([name]) => name[0] === '~')
  return Object.fromEntries(marks.map(([name, { value }]) => [name, value]))
}

function hidden(schema: object, marks: Record<string, unknown>): object {
  for (const [name, value] of Object.entries(marks)) {
    Object.defineProperty(schema, name, { value, enumerable: false, writable: true, configurable: true })
  }
  return schema
}
