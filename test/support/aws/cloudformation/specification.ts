import { loadAwsServiceSpecSync } from '@aws-cdk/aws-service-spec'
import type {
  Property,
  PropertyType,
  ResourceProperties,
  Resource as ResourceSpec,
} from '@aws-cdk/service-spec-types'
import { intrinsic, isObject, type Path, type Template } from './template.ts'

const database = loadAwsServiceSpecSync()
const known = new Map<string, ResourceSpec | null>()

/** AWS's description of a resource type; null if there is no such type. */
function specificationOf(type: string): ResourceSpec | null {
  const cached = known.get(type)
  if (cached !== undefined) return cached
  const [found = null] = database.lookup('resource', 'cloudFormationType', 'equals', type)
  known.set(type, found)
  return found
}

/** The attributes of a type for Fn::GetAtt; null if there is no such type. */
export function attributesOf(type: string): ReadonlySet<string> | null {
  const specification = specificationOf(type)
  return specification ? new Set(Object.keys(specification.attributes)) : null
}

/** https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-product-attribute-reference.html */
const ATTRIBUTES = [
  ...['Type', 'Properties', 'Condition', 'DependsOn', 'Metadata'],
  ...['CreationPolicy', 'UpdatePolicy', 'DeletionPolicy', 'UpdateReplacePolicy'],
]
const POLICIES = ['Delete', 'Retain', 'Snapshot', 'RetainExceptOnCreate']

/**
 * Checks that AWS knows every resource and property, that types are right, and that required properties are present.
 */
export function checkProperties(template: Template): string[] {
  const { Parameters = {}, Resources } = template
  const problems: string[] = []
  const fail = (path: Path, problem: string) => problems.push(`${path.join('.')}: ${problem}`)

  function properties(value: Record<string, unknown>, known: ResourceProperties, path: Path): void {
    for (const [name, one] of Object.entries(value)) {
      const property = known[name]
      if (property) typed(one, property, [...path, name])
      else fail(path, `no such property: ${name}`)
    }
    for (const [name, property] of Object.entries(known)) {
      const given = value[name]
      if (property.required && (given === undefined || isNoValue(given))) fail(path, `${name} is required`)
    }
  }

  /** A property may have had other types before, which are still accepted. */
  function typed(value: unknown, { type, previousTypes = [] }: Property, path: Path): void {
    const attempts = [type, ...previousTypes].map((one) => matches(value, one, path))
    if (!attempts.some((found) => found.length === 0)) problems.push(...(attempts[0] ?? []))
  }

  /** What is wrong with a value that should have this type. */
  function matches(value: unknown, type: PropertyType, path: Path): string[] {
    const wrong = (what: string) => [`${path.join('.')}: ${what}`]
    if (isNoValue(value)) return []
    const found = intrinsic(value)
    if (found && found.name !== 'Condition') {
      if (found.name === 'Fn::If' && Array.isArray(found.argument)) {
        return [1, 2].flatMap((i) =>
          matches((found.argument as unknown[])[i], type, [...path, 'Fn::If', `${i}`]),
        )
      }
      const result = resultOf(found.name, found.argument)
      return result === 'any' || fits(result, type)
        ? []
        : wrong(`${found.name} gives ${result}, and ${type.type} is expected`)
    }
    switch (type.type) {
      case 'json':
        return isObject(value) || typeof value === 'string' ? [] : wrong('an object is expected')
      case 'string':
      case 'date-time':
        return ['string', 'number'].includes(typeof value)
          ? allowed(value, type, wrong)
          : wrong('a string is expected')
      case 'integer':
      case 'number': {
        const number = typeof value === 'string' && value !== '' ? Number(value) : value
        const ok = type.type === 'integer' ? Number.isInteger(number) : Number.isFinite(number)
        return ok ? [] : wrong(`${type.type === 'integer' ? 'an integer' : 'a number'} is expected`)
      }
      case 'boolean':
        return [true, false, 'true', 'false'].includes(value as boolean)
          ? []
          : wrong('true or false is expected')
      case 'array':
        if (!Array.isArray(value)) return wrong('a list is expected')
        return value.flatMap((one, i) => matches(one, type.element, [...path, `${i}`]))
      case 'map':
        if (!isObject(value)) return wrong('an object is expected')
        return Object.entries(value).flatMap(([key, one]) => matches(one, type.element, [...path, key]))
      case 'tag':
        return nested(value, { Key: STRING, Value: STRING }, path)
      case 'ref':
        return nested(value, database.get('typeDefinition', type.reference.$ref).properties, path)
      case 'union': {
        const attempts = type.types.map((one) => matches(value, one, path))
        return attempts.some((one) => one.length === 0) ? [] : (attempts[0] ?? [])
      }
      default:
        return wrong(`the specification says ${type.type}`)
    }
  }

  function nested(value: unknown, known: ResourceProperties, path: Path): string[] {
    if (!isObject(value)) return [`${path.join('.')}: an object is expected`]
    const before = problems.length
    properties(value, known, path)
    return problems.splice(before)
  }

  /** What a function returns: a text, a list, or a type of the specification. */
  function resultOf(name: string, argument: unknown): 'string' | 'list' | 'number' | 'any' {
    if (['Fn::Sub', 'Fn::Join', 'Fn::Base64'].includes(name)) return 'string'
    if (['Fn::Split', 'Fn::GetAZs', 'Fn::Cidr'].includes(name)) return 'list'
    if (name === 'Fn::GetAtt') {
      const [id, attribute] = Array.isArray(argument) ? argument : []
      const type = specificationOf(Resources[String(id)]?.Type ?? '')?.attributes[String(attribute)]?.type
        .type
      return type === 'array' ? 'list' : type === 'string' ? 'string' : type === 'integer' ? 'number' : 'any'
    }
    if (name !== 'Ref') return 'any'
    const parameter = Parameters[String(argument)]
    if (!parameter) return 'string'
    if (parameter.Type === 'Number') return 'number'
    if (
      parameter.Type === 'String' &&
      parameter.AllowedValues?.every((one) => one === 'true' || one === 'false')
    )
      return 'any'
    return /^(CommaDelimitedList|List<|AWS::SSM::Parameter::Value<List<)/.test(parameter.Type)
      ? 'list'
      : 'string'
  }

  for (const [id, resource] of Object.entries(Resources)) {
    const path = ['Resources', id]
    for (const name of Object.keys(resource)) {
      if (!ATTRIBUTES.includes(name)) fail(path, `a resource has no ${name}`)
    }
    for (const name of ['DeletionPolicy', 'UpdateReplacePolicy']) {
      const policy = resource[name]
      if (policy !== undefined && !POLICIES.includes(String(policy)))
        fail([...path, name], `${policy} is not a policy`)
    }
    const specification = specificationOf(resource.Type)
    if (specification)
      properties(resource.Properties ?? {}, specification.properties, [...path, 'Properties'])
    else fail(path, `no such type: ${resource.Type}`)
  }
  return problems
}

const STRING: Property = { type: { type: 'string' }, required: true }

function isNoValue(value: unknown): boolean {
  const found = intrinsic(value)
  return found?.name === 'Ref' && found.argument === 'AWS::NoValue'
}

function fits(result: 'string' | 'list' | 'number', type: PropertyType): boolean {
  if (type.type === 'union') return type.types.some((one) => fits(result, one))
  if (result === 'list') return type.type === 'array'
  if (result === 'number') return ['integer', 'number', 'string'].includes(type.type)
  return ['string', 'json', 'date-time'].includes(type.type)
}

function allowed(value: unknown, type: PropertyType, wrong: (what: string) => string[]): string[] {
  const values = 'allowedValues' in type ? type.allowedValues : undefined
  return !values || values.some((one) => one === value)
    ? []
    : wrong(`${value} is not one of ${values.join(', ')}`)
}
