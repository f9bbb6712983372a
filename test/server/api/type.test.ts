import { Type as Real } from 'typebox'
import { expect, test } from 'vitest'
import { Type } from '../../../src/lib/api/type.ts'

/** The same schema, made by both. */
const make = (T: typeof Type) =>
  T.Object(
    {
      text: T.String({ minLength: 1, description: 'A text' }),
      maybe: T.Optional(T.Integer({ minimum: 0 })),
      one: T.Enum(['a', 'b'], { type: 'string' }),
      always: T.Literal('ok'),
      either: T.Optional(T.Union([T.Number(), T.Null()])),
      list: T.Array(T.Boolean(), { maxItems: 3 }),
      any: T.Unknown(),
      empty: T.Object({}),
      all: T.Object({ x: T.Optional(T.String()) }, { additionalProperties: false }),
    },
    { title: 'Thing' },
  )

function everything(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(everything)
  if (typeof value !== 'object' || value === null) return value
  const all = Object.getOwnPropertyDescriptors(value)
  return Object.fromEntries(Object.entries(all).map(([key, { value: part }]) => [key, everything(part)]))
}

test('schemas are those that TypeBox makes, marks included', () => {
  expect(everything(make(Type))).toEqual(everything(make(Real)))
  expect(JSON.parse(JSON.stringify(make(Type)))).toEqual(JSON.parse(JSON.stringify(make(Real))))
})
