/** The parts of a CloudFormation template that are checked. */
export interface Template {
  Parameters?: Record<string, Parameter>
  Mappings?: Record<string, Record<string, Record<string, unknown>>>
  Conditions?: Record<string, unknown>
  Rules?: Record<string, unknown>
  Metadata?: Record<string, unknown>
  Resources: Record<string, Resource>
  Outputs?: Record<string, { Value?: unknown; Condition?: string }>
  [section: string]: unknown
}

interface Parameter {
  Type: string
  Default?: unknown
  NoEcho?: boolean
  Description?: string
  AllowedPattern?: string
  AllowedValues?: unknown[]
  MinValue?: number
  MaxValue?: number
  [attribute: string]: unknown
}

interface Resource {
  Type: string
  Properties?: Record<string, unknown>
  Condition?: string
  DependsOn?: string | string[]
  [attribute: string]: unknown
}

export type Path = readonly string[]

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Splits `{"Ref": x}` or `{"Fn::Y": x}`; null for anything else. */
export function intrinsic(value: unknown): { name: string; argument: unknown } | null {
  if (!isObject(value)) return null
  const [name, ...more] = Object.keys(value)
  if (name === undefined || more.length > 0) return null
  return name === 'Ref' || name === 'Condition' || name.startsWith('Fn::')
    ? { name, argument: value[name] }
    : null
}

/** The variables of a text for Fn::Sub: `${Name}` and `${Name.Attribute}`, but not `${!literal}`. */
export function subVariables(text: string): string[] {
  return [...text.matchAll(/\$\{([^!}][^}]*)\}/g)].map(([, name]) => name as string)
}

/** The text of an Fn::Sub, and its own variables. */
export function subParts(argument: unknown): { text: string; own: Record<string, unknown> } | null {
  if (typeof argument === 'string') return { text: argument, own: {} }
  if (!Array.isArray(argument) || argument.length !== 2) return null
  const [text, own] = argument
  return typeof text === 'string' && isObject(own) ? { text, own } : null
}

/** `[resource, attribute]` of either form of Fn::GetAtt. */
export function getAttParts(argument: unknown): [string, string] | null {
  const parts = typeof argument === 'string' ? argument.split(/\.(.*)/s).slice(0, 2) : argument
  if (!Array.isArray(parts) || parts.length !== 2) return null
  const [resource, attribute] = parts
  return typeof resource === 'string' && typeof attribute === 'string' ? [resource, attribute] : null
}

/** Calls `see` with a value and every value inside it, and their paths. */
export function walk(value: unknown, path: Path, see: (value: unknown, path: Path) => void): void {
  see(value, path)
  if (Array.isArray(value)) for (const [i, one] of value.entries()) walk(one, [...path, `${i}`], see)
  else if (isObject(value)) for (const [key, one] of Object.entries(value)) walk(one, [...path, key], see)
}
