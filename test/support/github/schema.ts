import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { Ajv, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'

/**
 * GitHub's published OpenAPI description (npm: @octokit/openapi), used to check single requests, responses and webhook
 * payloads. The description is huge: it is read once, and only the schemas that are used are compiled.
 */

type Json = Record<string, unknown>

interface Parameter {
  name: string
  in: 'path' | 'query' | 'header'
  required?: boolean
  schema: Json
  /** GitHub's extension: the value may contain slashes. */
  'x-multi-segment'?: boolean
}

/** One method of one path, with top-level $refs resolved. */
export interface Operation {
  method: string
  /** As in the description: `/repos/{owner}/{repo}`. */
  path: string
  /** The parameters in a request's path (decoded), or null if the path does not match. */
  match(path: string): Record<string, string> | null
  /** Problems of a request, one sentence each. */
  checkRequest(request: { params: Record<string, string>; query: URLSearchParams; body: unknown }): string[]
  /** Problems of a response, including a status that GitHub never returns for this operation. */
  checkAnswer(status: number, body: unknown): string[]
  /** GitHub's own example of a response. */
  example(status: number): Json
}

export interface GitHubSchema {
  operation(method: string, path: string): Operation
  /** Problems of a webhook payload. `schema` is its name in the description, such as `webhook-push`. */
  checkPayload(schema: string, payload: unknown): string[]
  /** The fields that a schema describes. */
  fieldsOf(schema: string): Set<string>
}

let loaded: Promise<GitHubSchema> | undefined

export function githubSchema(): Promise<GitHubSchema> {
  loaded ??= load()
  return loaded
}

async function load(): Promise<GitHubSchema> {
  const file = createRequire(import.meta.url).resolve('@octokit/openapi/generated/api.github.com.json')
  const document = JSON.parse(await readFile(file, 'utf8')) as Json
  // Not strict: OpenAPI's own keywords (example, discriminator) are not JSON schema.
  const ajv = new Ajv({ strict: false, allErrors: true })
  formats.default(ajv)

  const at = (pointer: string): Json => {
    const keys = pointer.replace(/^#\//, '').split('/')
    const value = keys.reduce<unknown>((part, key) => (part as Json)[pointerKey(key)], document)
    if (value === undefined) throw new Error(`GitHub's description has no ${pointer}`)
    return value as Json
  }
  const resolve = (value: Json): Json => (typeof value.$ref === 'string' ? at(value.$ref) : value)

  /** A schema together with all that it refers to, so that ajv never walks the whole description. */
  const compile = (schema: Json): ValidateFunction => {
    const schemas: Json = {}
    const collect = (value: unknown): void => {
      if (Array.isArray(value)) value.forEach(collect)
      if (typeof value !== 'object' || value === null) return
      allowNull(value as Json)
      const name =
        '$ref' in value ? /^#\/components\/schemas\/(.+)$/.exec(String(value.$ref))?.[1] : undefined
      if (name !== undefined && !(name in schemas)) {
        schemas[name] = at(`#/components/schemas/${name}`)
        collect(schemas[name])
      }
      Object.values(value).forEach(collect)
    }
    collect(schema)
    return ajv.compile({ ...schema, components: { schemas } })
  }
  const check = (validate: ValidateFunction, value: unknown, what: string): string[] =>
    validate(value) ? [] : (validate.errors ?? []).map((e) => `${what}${e.instancePath}: ${e.message}`)

  const operations = new Map<string, Operation>()
  const operation = (method: string, path: string): Operation => {
    const known = operations.get(`${method} ${path}`) ?? compileOperation(method, path)
    operations.set(`${method} ${path}`, known)
    return known
  }
  const compileOperation = (method: string, path: string): Operation => {
    const described = resolve((at('#/paths')[path] as Json)[method.toLowerCase()] as Json)
    const parameters = ((described.parameters ?? []) as Json[]).map(resolve) as unknown as Parameter[]
    const pattern = pathPattern(path, parameters)
    const bodySchema = described.requestBody
      ? (contentOf(resolve(described.requestBody as Json))?.schema as Json)
      : undefined
    const checkBody = bodySchema ? compile(bodySchema) : undefined
    const answerOf = (status: number) => {
      const answer = (described.responses as Record<string, Json>)[status]
      return answer ? contentOf(resolve(answer)) : undefined
    }
    const checkParameter = parameters.map((parameter) => [parameter, compile(parameter.schema)] as const)
    const answerChecks = new Map<number, ValidateFunction>()

    return {
      method,
      path,
      match: (requested) => decoded(pattern.exec(requested)),
      checkRequest: ({ params, query, body }) => {
        const problems: string[] = []
        for (const [parameter, validate] of checkParameter) {
          const value = typed(
            parameter,
            parameter.in === 'path' ? params[parameter.name] : query.get(parameter.name),
          )
          if (value !== undefined && value !== null) problems.push(...check(validate, value, parameter.name))
          else if (parameter.required) problems.push(`${parameter.name} is missing`)
        }
        const known = parameters.filter((parameter) => parameter.in === 'query').map(({ name }) => name)
        for (const name of query.keys()) if (!known.includes(name)) problems.push(`unknown parameter ${name}`)
        if (!checkBody || !bodySchema) return body === undefined ? problems : [...problems, 'unexpected body']
        if (body === undefined) return [...problems, 'the body is missing']
        problems.push(...check(checkBody, body, 'body'))
        const fields = Object.keys((bodySchema.properties ?? {}) as Json)
        for (const field of Object.keys(body ?? {})) {
          if (!fields.includes(field)) problems.push(`body/${field}: GitHub knows no such field`)
        }
        return problems
      },
      checkAnswer: (status, body) => {
        const schema = answerOf(status)?.schema as Json | undefined
        const isKnown = status in (described.responses as Record<string, Json>)
        if (!isKnown) return [`GitHub never answers ${method} ${path} with ${status}`]
        if (!schema) return body === undefined ? [] : ['answer: it has no body']
        const validate = answerChecks.get(status) ?? compile(schema)
        answerChecks.set(status, validate)
        return check(validate, body, 'answer')
      },
      example: (status) => {
        const examples = Object.values((answerOf(status)?.examples ?? {}) as Record<string, Json>)
        if (!examples[0]) throw new Error(`GitHub has no example of ${status} to ${method} ${path}`)
        return structuredClone(resolve(examples[0]).value as Json)
      },
    }
  }

  const payloadChecks = new Map<string, ValidateFunction>()
  return {
    operation,
    fieldsOf: (schema) => new Set(Object.keys(at(`#/components/schemas/${schema}`).properties as Json)),
    checkPayload(schema, payload) {
      const validate = payloadChecks.get(schema) ?? compile({ $ref: `#/components/schemas/${schema}` })
      payloadChecks.set(schema, validate)
      return check(validate, payload, schema)
    },
  }
}

/** A parameter by its type: if it is not a number, it stays a string, which the check rejects. */
function typed({ schema }: Parameter, text: string | null | undefined): string | number | null | undefined {
  return schema.type === 'integer' && /^\d+$/.test(text ?? '') ? Number(text) : text
}

function contentOf(value: Json): Json | undefined {
  return (value.content as Record<string, Json> | undefined)?.['application/json']
}

/** ajv requires a type next to `nullable`, and null in an enum; GitHub also combines it with $ref, anyOf and oneOf. Changes it in place. */
function allowNull(schema: Json): void {
  if (schema.nullable !== true) return
  if (Array.isArray(schema.enum) && !schema.enum.includes(null)) schema.enum.push(null)
  if ('type' in schema) return
  const { nullable: _, ...rest } = schema
  for (const key of Object.keys(schema)) delete schema[key]
  schema.anyOf = [{ type: 'null' }, rest]
}

/** One step of a JSON pointer. */
function pointerKey(key: string): string {
  return decodeURIComponent(key).replaceAll('~1', '/').replaceAll('~0', '~')
}

function pathPattern(path: string, parameters: Parameter[]): RegExp {
  const source = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const multi = parameters.some((parameter) => parameter.name === name && parameter['x-multi-segment'])
    return `(?<${name}>${multi ? '.+' : '[^/]+'})`
  })
  return new RegExp(`^${source}$`)
}

function decoded(match: RegExpExecArray | null): Record<string, string> | null {
  if (!match) return null
  const parameters = Object.entries(match.groups ?? {})
  return Object.fromEntries(parameters.map(([name, value]) => [name, decodeURIComponent(value)]))
}
