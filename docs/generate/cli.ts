import { readdirSync } from 'node:fs'
import type { Command } from '@oclif/core'
import { type ExitCodes, exitCodesHelp } from '../../src/lib/cli/exit-codes.ts'
import { OPTIONS } from '../../src/lib/config/options.ts'
import { code, page, table, text } from './markdown.ts'

const COMMANDS = new URL('../../src/commands/', import.meta.url)

type CommandClass = typeof Command & { exitCodes: ExitCodes }
type Flag = CommandClass['flags'][string]

const INTRO = `# Commands

<!-- Generated from src/commands by \`npm run docs\`. -->

\`conveyor --help\` lists the commands, \`conveyor COMMAND --help\` shows the flags of one, and \`conveyor --version\` prints
the version. Results are written to stdout, logs and errors to stderr. Every command exits with 2 if its arguments are
invalid. If nothing reads its output anymore (\`| head -1\`), it exits with 141. \`conveyor autocomplete\` shows how to set up
completion in bash, zsh and PowerShell.`

/** docs/cli.md */
export async function cliPage(): Promise<string> {
  const files = readdirSync(COMMANDS, { recursive: true, encoding: 'utf8' })
  const names = files.filter((file) => file.endsWith('.ts')).map((file) => file.slice(0, -'.ts'.length))
  const commands = await Promise.all(names.sort().map(load))
  const shown = commands.toSorted(
    (a, b) => Number(a.command.hidden ?? false) - Number(b.command.hidden ?? false),
  )
  const rows = shown.map(({ name, command }) => [
    `[${name}](#conveyor-${name.replaceAll(' ', '-')})`,
    text(command.summary ?? ''),
  ])
  return page(INTRO, table(['Command', 'Description'], rows), ...shown.map(section))
}

async function load(path: string): Promise<{ name: string; command: CommandClass }> {
  const { default: command }: { default: CommandClass } = await import(new URL(`${path}.ts`, COMMANDS).href)
  return { name: path.replaceAll('/', ' '), command }
}

function section({ name, command }: { name: string; command: CommandClass }): string {
  const expanded = (template: string) =>
    template.replaceAll('<%= config.bin %>', 'conveyor').replaceAll('<%= command.id %>', name)
  const description = (command.description ?? '').replace(exitCodesHelp(command.exitCodes), '')
  const examples = (command.examples ?? []).map((one) => `$ ${expanded(String(one))}`)
  const own = Object.entries(command.flags).filter(([flag, { env }]) => OPTIONS[flag]?.env !== env || !env)
  return page(
    `## conveyor ${name}`,
    `${command.summary}.`,
    `\`\`\`console\n$ conveyor ${expanded(String(command.usage))}\n\`\`\``,
    description,
    argumentTable(command),
    own.length === 0 ? '' : table(['Flag', 'Variable', 'Description'], own.map(flagRow)),
    optionList(command),
    examples.length === 0 ? '' : `\`\`\`console\n${examples.join('\n')}\n\`\`\``,
    exitCodeTable(command.exitCodes),
  ).trimEnd()
}

function argumentTable({ args }: CommandClass): string {
  const rows = Object.entries(args).map(([name, { description }]) => [
    code(name.toUpperCase()),
    text(description ?? ''),
  ])
  return rows.length === 0 ? '' : table(['Argument', 'Description'], rows)
}

function flagRow([name, flag]: [string, Flag]): string[] {
  const value = flag.type === 'option' ? ` ${flag.helpValue ?? `<${flag.options?.join('|')}>`}` : ''
  const spelled = flag.type === 'boolean' && flag.allowNo ? `--[no-]${name}` : `--${name}`
  const short = flag.char ? `-${flag.char}, ` : ''
  const hasDefault = ['string', 'number'].includes(typeof flag.default) && flag.default !== ''
  const fallback = hasDefault ? ` [default: ${flag.default}]` : ''
  const required = flag.required ? ' (required)' : ''
  return [
    code(`${short}${spelled}${value}`),
    flag.env ? code(flag.env) : '',
    `${text(`${flag.description}${fallback}`)}${required}`,
  ]
}

/** When options of a group in --help are used. */
const CONDITIONS: Record<string, string> = { LOCAL: 'With `--local`', 'THIS MACHINE': 'Without `--url`' }

/** The options of the table that a command takes: by name, or all but some. */
function optionList({ flags }: CommandClass): string {
  const all = Object.values(OPTIONS)
  const taken = all.filter(({ flag, env }) => flags[flag]?.env === env)
  const missing = all.filter((one) => !taken.includes(one))
  const names = (some: typeof all) =>
    new Intl.ListFormat('en-US').format(some.map(({ flag }) => code(`--${flag}`)))
  if (missing.length === 0) return 'Takes all [options](options.md).'
  if (taken.length === 0) return ''
  const [group] = [...new Set(taken.map(({ flag }) => flags[flag]?.helpGroup))]
  const when = CONDITIONS[group ?? '']
  if (when) {
    return `${when}, also takes these [options](options.md): ${names(taken)}.`
  }
  return missing.length < taken.length / 2
    ? `Takes all [options](options.md) except ${names(missing)}.`
    : `Also takes these [options](options.md): ${names(taken)}.`
}

function exitCodeTable(codes: ExitCodes): string {
  return table(
    ['Exit code', 'Meaning'],
    Object.entries(codes).map(([number, meaning]) => [number, text(meaning)]),
  )
}
