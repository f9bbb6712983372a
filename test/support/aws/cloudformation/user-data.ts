import { getAttParts, intrinsic, isObject, subParts, type Template } from './template.ts'

/** The values of parameters and resources when user data is rendered; others are replaced by their names. */
export interface RenderValues {
  /** What Ref returns, by name of the parameter or resource. */
  refs: Record<string, string>
  conditions: Record<string, boolean>
}

/** The user data that a machine gets, from a value with Base64, Join, Sub, If, Ref and GetAtt in it. */
export function render(template: Template, value: unknown, values: RenderValues): string {
  const reference = (name: string) =>
    values.refs[name] ?? String(template.Parameters?.[name]?.Default ?? `of-${name}`)
  const inner = (one: unknown): string => render(template, one, values)
  if (!isObject(value)) return String(value)
  const { name, argument } = intrinsic(value) ?? { name: '', argument: null }
  const list = Array.isArray(argument) ? argument : []
  switch (name) {
    case 'Fn::Base64':
      return inner(argument)
    case 'Fn::Join':
      return (list[1] as unknown[]).map(inner).join(String(list[0]))
    case 'Fn::If':
      return inner(values.conditions[String(list[0])] ? list[1] : list[2])
    case 'Ref':
      return reference(String(argument))
    case 'Fn::GetAtt':
      return `of-${getAttParts(argument)?.join('-')}`
    case 'Fn::Sub':
      return (subParts(argument)?.text ?? '').replace(/\$\{(!?)([^}]*)\}/g, (_, literal, variable) =>
        literal ? `\${${variable}}` : variable.includes('.') ? `of-${variable}` : reference(variable),
      )
    default:
      throw new Error(`user data has ${JSON.stringify(value)}`)
  }
}

/** The files that a shell script writes with `cat > FILE <<'END'`, or `>>`, by path. */
export function filesOf(script: string): Map<string, string> {
  const files = new Map<string, string>()
  for (const [, path = '', text = ''] of script.matchAll(/^ *cat >>? ?(\S+) <<'?END'?\n(.*?)^END$/gms)) {
    files.set(path, `${files.get(path) ?? ''}${text}`)
  }
  return files
}

/** `NAME=value` lines, as `docker run --env-file` reads them. */
export function variablesOf(text: string): Record<string, string> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return Object.fromEntries(lines.map((line) => [line.replace(/=.*/, ''), line.replace(/^[^=]*=?/, '')]))
}

/** Sections and keys of systemd units that we use; see systemd.unit(5), .service(5), .timer(5). */
const UNIT_KEYS: Record<string, string[]> = {
  Unit: ['Description', 'Wants', 'After', 'Requires', 'StartLimitIntervalSec'],
  Service: [
    ...[
      'Type',
      'ExecStartPre',
      'ExecStart',
      'ExecStop',
      'TimeoutStartSec',
      'TimeoutStopSec',
      'Restart',
      'RestartSec',
    ],
  ],
  Timer: ['OnActiveSec', 'OnUnitActiveSec'],
  Install: ['WantedBy'],
}

/** Syntax errors of a unit file, line by line. */
export function unitProblems(text: string): string[] {
  const problems: string[] = []
  let section = ''
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const [, heading] = /^\[(\w+)\]$/.exec(line) ?? []
    const [, key, value = ''] = /^(\w+)=(.+)$/.exec(line) ?? []
    if (heading) section = heading
    else if (!key) problems.push(`not an assignment: ${line}`)
    else if (!UNIT_KEYS[section]?.includes(key)) problems.push(`no such key in [${section}]: ${key}`)
    else if (key.startsWith('Exec') && !/^-?\/\S+/.test(value)) problems.push(`not an absolute path: ${line}`)
    else if (key.endsWith('Sec') && !/^(\d+(s|min)?)( \d+(s|min))*$/.test(value))
      problems.push(`no time span: ${line}`)
  }
  return problems
}
