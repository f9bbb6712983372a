import { intrinsic } from './template.ts'

/**
 * Whether a condition is true wherever the given ones are true or false as stated. Each `Fn::Equals` may be true or
 * false independently, but two that compare the same thing with different texts are never true together.
 */
export function implied(
  conditions: Record<string, unknown>,
  given: readonly { name: string; holds: boolean }[],
  wanted: string,
): boolean {
  const atoms = atomsOf(Object.values(conditions))
  for (let bits = 0; bits < 2 ** atoms.length; bits++) {
    const truth = (atom: string) => (bits & (1 << atoms.indexOf(atom))) !== 0
    if (!possible(atoms, truth)) continue
    const holds = (name: string) => evaluate(conditions[name], conditions, truth)
    if (given.every((one) => holds(one.name) === one.holds) && !holds(wanted)) return false
  }
  return true
}

function atomsOf(values: unknown[]): string[] {
  const found = new Set<string>()
  const visit = (value: unknown) => {
    const part = intrinsic(value)
    if (part?.name === 'Fn::Equals') found.add(JSON.stringify(part.argument))
    else if (Array.isArray(part?.argument)) part.argument.forEach(visit)
  }
  values.forEach(visit)
  return [...found]
}

function possible(atoms: string[], truth: (atom: string) => boolean): boolean {
  const equal = new Map<string, unknown>()
  for (const atom of atoms.filter(truth)) {
    const [left, right] = JSON.parse(atom)
    const key = JSON.stringify(left)
    if (equal.has(key) && equal.get(key) !== right) return false
    equal.set(key, right)
  }
  return true
}

function evaluate(
  value: unknown,
  conditions: Record<string, unknown>,
  truth: (atom: string) => boolean,
): boolean {
  const part = intrinsic(value)
  const parts = Array.isArray(part?.argument) ? part.argument : []
  const inner = (one: unknown) => evaluate(one, conditions, truth)
  switch (part?.name) {
    case 'Fn::Equals':
      return truth(JSON.stringify(part.argument))
    case 'Fn::Not':
      return !inner(parts[0])
    case 'Fn::And':
      return parts.every(inner)
    case 'Fn::Or':
      return parts.some(inner)
    case 'Condition':
      return inner(conditions[String(part.argument)])
    default:
      throw new Error(`not a condition: ${JSON.stringify(value)}`)
  }
}
