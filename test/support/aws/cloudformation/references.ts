import { implied } from './conditions.ts'
import {
  getAttParts,
  intrinsic,
  isObject,
  type Path,
  subParts,
  subVariables,
  type Template,
} from './template.ts'

/** https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/pseudo-parameter-reference.html */
const PSEUDO = [
  'AccountId',
  'NoValue',
  'NotificationARNs',
  'Partition',
  'Region',
  'StackId',
  'StackName',
  'URLSuffix',
]
const FUNCTIONS = [
  ...[
    'Base64',
    'Cidr',
    'FindInMap',
    'GetAZs',
    'GetAtt',
    'If',
    'ImportValue',
    'Join',
    'Select',
    'Split',
    'Sub',
  ],
  ...['And', 'Equals', 'Not', 'Or', 'Contains', 'EachMemberIn', 'RefAll', 'ValueOf'],
].map((name) => `Fn::${name}`)

/** Which values go where: `to` is the path of the value with the reference. */
export interface Reference {
  name: string
  to: Path
}

export interface ReferenceCheck {
  problems: string[]
  references: Reference[]
}

/** Checks that the target of every Ref, Fn::GetAtt, Fn::Sub, Fn::If, Fn::FindInMap, Condition and DependsOn exists. */
export function checkReferences(
  template: Template,
  attributesOf: (type: string) => ReadonlySet<string> | null,
): ReferenceCheck {
  const { Parameters = {}, Resources, Conditions = {}, Mappings = {}, Outputs = {} } = template
  const problems: string[] = []
  const references: Reference[] = []
  const used = new Set<string>()
  const fail = (path: Path, problem: string) => problems.push(`${path.join('.')}: ${problem}`)

  function refer(name: string, path: Path, context: Context): void {
    used.add(name)
    references.push({ name, to: path })
    if (PSEUDO.some((one) => `AWS::${one}` === name) || name in Parameters) return
    const condition = Resources[name]?.Condition
    if (!(name in Resources)) {
      fail(path, `no such parameter or resource: ${name}`)
    } else if (path[0] === 'Conditions' || path[0] === 'Rules') {
      fail(path, `a condition cannot depend on resource ${name}`)
    } else if (condition !== undefined && !implied(Conditions, context, condition)) {
      fail(path, `${name} exists only if ${condition}, and that is not known here`)
    }
  }

  function attribute(argument: unknown, path: Path, context: Context): void {
    const [name, wanted] = getAttParts(argument) ?? []
    const resource = Resources[name ?? '']
    if (name === undefined || wanted === undefined) {
      fail(path, 'Fn::GetAtt takes a resource and an attribute')
    } else if (!resource) {
      fail(path, `no such resource: ${name}`)
    } else {
      refer(name, path, context)
      const known = attributesOf(resource.Type)?.has(wanted) ?? true
      if (!known) fail(path, `${resource.Type} has no attribute ${wanted}`)
    }
  }

  function condition(name: unknown, path: Path): void {
    used.add(String(name))
    if (typeof name !== 'string' || !(name in Conditions)) fail(path, `no such condition: ${String(name)}`)
  }

  function substitute(argument: unknown, path: Path, context: Context): void {
    const parts = subParts(argument)
    if (!parts) fail(path, 'Fn::Sub takes a text, or a text and an object')
    for (const variable of subVariables(parts?.text ?? '')) {
      if (parts && variable in parts.own) continue
      if (variable.includes('.')) attribute(variable, path, context)
      else refer(variable, path, context)
    }
    visit(parts?.own, [...path, 'Fn::Sub'], context)
  }

  function choose(argument: unknown, path: Path, context: Context): void {
    const [name, yes, no, ...rest] = Array.isArray(argument) ? argument : []
    if (no === undefined || rest.length > 0) fail(path, 'Fn::If takes a condition and two values')
    condition(name, path)
    visit(yes, [...path, 'Fn::If', '1'], [...context, { name: String(name), holds: true }])
    visit(no, [...path, 'Fn::If', '2'], [...context, { name: String(name), holds: false }])
  }

  function find(argument: unknown, path: Path, context: Context): void {
    const [map, top, second] = Array.isArray(argument) ? argument : []
    used.add(String(map))
    const entries = Mappings[String(map)]
    if (!entries) fail(path, `no such mapping: ${String(map)}`)
    // A key that is a parameter must exist for each allowed value.
    const key = intrinsic(top)
    const keys = key ? (Parameters[String(key.argument)]?.AllowedValues ?? ['(any value)']) : [top]
    for (const one of entries ? keys : []) {
      if (entries?.[String(one)]?.[String(second)] === undefined) {
        fail(path, `mapping ${String(map)} has no ${String(one)}.${String(second)}`)
      }
    }
    visit(top, [...path, 'Fn::FindInMap', '1'], context)
  }

  function visit(value: unknown, path: Path, context: Context): void {
    const found = intrinsic(value)
    if (!found) {
      const inside = isObject(value) || Array.isArray(value) ? Object.entries(value) : []
      for (const [key, one] of inside) {
        if (key.startsWith('Fn::') || key === 'Ref') fail(path, `${key} must be the only key`)
        visit(one, [...path, key], context)
      }
      return
    }
    const { name, argument } = found
    if (name === 'Ref') refer(String(argument), path, context)
    else if (name === 'Fn::GetAtt') attribute(argument, path, context)
    else if (name === 'Fn::Sub') substitute(argument, path, context)
    else if (name === 'Fn::If') choose(argument, path, context)
    else if (name === 'Fn::FindInMap') find(argument, path, context)
    else if (name === 'Condition' && typeof argument === 'string') condition(argument, path)
    else if (name !== 'Condition' && !FUNCTIONS.includes(name)) fail(path, `no such function: ${name}`)
    else visit(argument, [...path, name], context)
  }

  for (const [name, value] of Object.entries(Conditions)) visit(value, ['Conditions', name], [])
  if (template.Rules) visit(template.Rules, ['Rules'], [])
  for (const [id, resource] of Object.entries(Resources)) {
    const path = ['Resources', id]
    const context = resource.Condition === undefined ? [] : [{ name: resource.Condition, holds: true }]
    if (resource.Condition !== undefined) condition(resource.Condition, path)
    for (const other of [resource.DependsOn ?? []].flat()) {
      if (!(other in Resources)) fail([...path, 'DependsOn'], `no such resource: ${other}`)
      else refer(other, [...path, 'DependsOn'], context)
    }
    for (const part of ['Properties', 'Metadata', 'CreationPolicy', 'UpdatePolicy']) {
      visit(resource[part], [...path, part], context)
    }
  }
  for (const [id, output] of Object.entries(Outputs)) {
    if (output.Condition !== undefined) condition(output.Condition, ['Outputs', id])
    const context = output.Condition === undefined ? [] : [{ name: output.Condition, holds: true }]
    visit(output.Value, ['Outputs', id, 'Value'], context)
  }
  for (const [section, names] of Object.entries({ Parameters, Conditions, Mappings })) {
    for (const name of Object.keys(names)) if (!used.has(name)) fail([section, name], 'nothing uses it')
  }
  problems.push(...circles(template, references))
  return { problems, references }
}

/** Resources that wait for each other: CloudFormation creates none of them. */
function circles({ Resources }: Template, references: Reference[]): string[] {
  const waitsFor = new Map<string, string[]>()
  for (const { name, to } of references) {
    const [section, id = ''] = to
    if (section === 'Resources' && name in Resources) waitsFor.set(id, [...(waitsFor.get(id) ?? []), name])
  }
  const done = new Set<string>()
  const found: string[] = []
  const follow = (id: string, way: string[]) => {
    if (way.includes(id)) found.push(`${[...way.slice(way.indexOf(id)), id].join(' waits for ')}`)
    if (way.includes(id) || done.has(id)) return
    for (const next of waitsFor.get(id) ?? []) follow(next, [...way, id])
    done.add(id)
  }
  for (const id of Object.keys(Resources)) follow(id, [])
  return found
}

type Context = { name: string; holds: boolean }[]
