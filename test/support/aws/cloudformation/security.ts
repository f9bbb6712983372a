import type { Reference } from './references.ts'
import { intrinsic, isObject, type Path, subParts, type Template, walk } from './template.ts'

/** Where a secret parameter may go: only into Secrets Manager. */
function mayHoldSecret(template: Template, { to }: Reference): boolean {
  const [section, id, , property] = to
  return (
    section === 'Resources' &&
    template.Resources[id ?? '']?.Type === 'AWS::SecretsManager::Secret' &&
    property === 'SecretString'
  )
}

const SECRET_NAME = /token|password|secret|credential|privatekey|config$/i
const SECRET_TEXT =
  /gh[pousr]_[A-Za-z0-9]{20}|github_pat_|AKIA[0-9A-Z]{16}|-----BEGIN|"auth":\s*"[A-Za-z0-9+/=]{8}|:\/\/[^\s/:@$]+:[^\s/@$\\]+@/

/** Secret parameters are NoEcho, have no default worth hiding, and flow only into Secrets Manager. */
export function checkSecrets(template: Template, references: Reference[]): string[] {
  const problems: string[] = []
  for (const [name, parameter] of Object.entries(template.Parameters ?? {})) {
    if (SECRET_NAME.test(name) && parameter.NoEcho !== true)
      problems.push(`Parameters.${name}: a secret, and not NoEcho`)
    if (!parameter.NoEcho) continue
    if (![undefined, '', '{}'].includes(parameter.Default as string))
      problems.push(`Parameters.${name}: has a default`)
    for (const reference of references.filter((one) => one.name === name)) {
      if (!mayHoldSecret(template, reference)) {
        problems.push(`${reference.to.join('.')}: shows ${name}, which is NoEcho`)
      }
    }
  }
  walk(template, [], (value, path) => {
    if (typeof value === 'string' && SECRET_TEXT.test(value))
      problems.push(`${path.join('.')}: has a secret in it`)
    if (typeof value === 'string' && value.includes('{{resolve:')) {
      problems.push(`${path.join('.')}: a dynamic reference, which ends up in plain text where it is used`)
    }
  })
  return problems
}

interface Grant {
  action: string
  resource: string
  path: string
}

/** Every pair of action and resource in Allow statements, as texts: references become `${Name.Attribute}`. */
export function grants(template: Template): Grant[] {
  const found: Grant[] = []
  walk(template.Resources, ['Resources'], (value, path) => {
    if (!isObject(value) || value.Effect !== 'Allow') return
    for (const action of [value.Action].flat()) {
      // A trust policy has no resource.
      for (const resource of value.Resource === undefined ? ['(itself)'] : [value.Resource].flat()) {
        found.push({ action: String(action), resource: textOf(resource), path: path.join('.') })
      }
    }
    for (const key of ['NotAction', 'NotResource', 'NotPrincipal']) {
      if (key in value) found.push({ action: key, resource: '*', path: path.join('.') })
    }
  })
  return found
}

/**
 * Wildcards in Allow statements.
 * @param reasons resources with a wildcard that are as narrow as they can be, and why
 */
export function checkGrants(template: Template, reasons: Record<string, string>): string[] {
  const problems: string[] = []
  const used = new Set<string>()
  for (const { action, resource, path } of grants(template)) {
    if (action.includes('*') || action.startsWith('Not')) problems.push(`${path}: allows ${action}`)
    if (!resource.includes('*')) continue
    const key = resource === '*' ? `${action} *` : resource
    used.add(key)
    if (!(key in reasons)) problems.push(`${path}: allows ${action} on ${resource}`)
  }
  for (const key of Object.keys(reasons))
    if (!used.has(key)) problems.push(`nothing needs the exception for ${key}`)
  walk(template.Resources, ['Resources'], (value, path) => problems.push(...openPrincipal(value, path)))
  return problems
}

function openPrincipal(value: unknown, path: Path): string[] {
  if (!isObject(value) || value.Effect !== 'Allow') return []
  return JSON.stringify(value.Principal ?? '').includes('*') ? [`${path.join('.')}: allows anybody`] : []
}

function textOf(value: unknown): string {
  const found = intrinsic(value)
  if (!found) return String(value)
  if (found.name === 'Fn::Sub') return subParts(found.argument)?.text ?? ''
  return `\${${[found.argument].flat().join('.')}}`
}
