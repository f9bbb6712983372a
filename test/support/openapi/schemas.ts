import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js'
import formats from 'ajv-formats'
import type { OpenApi } from '../../../src/lib/server/api/openapi.ts'

/** Makes validators of the schemas in an OpenAPI document. Strict: an unknown keyword is an error. */
export class DocumentSchemas {
  readonly #components: OpenApi['components']
  readonly #ajv = new Ajv2020({ strict: true, strictRequired: false, allErrors: true })
  readonly #validators = new Map<object, ValidateFunction>()

  constructor(document: OpenApi) {
    this.#components = document.components
    formats.default(this.#ajv)
    this.#ajv.addVocabulary(['x-must', 'example', 'components'])
  }

  validator(schema: object): ValidateFunction {
    const known = this.#validators.get(schema)
    if (known) return known
    // Where its references point.
    const made = this.#ajv.compile({ ...schema, components: { schemas: this.#components.schemas } })
    this.#validators.set(schema, made)
    return made
  }

  /** What is wrong with a value; null if it is as the schema says. */
  problems(schema: object, value: unknown): string | null {
    const validate = this.validator(schema)
    return validate(value) ? null : this.#ajv.errorsText(validate.errors)
  }
}
