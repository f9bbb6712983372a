import type { Option } from '../../src/lib/config/option.ts'
import { SECRET_OPTIONS, TOPICS } from '../../src/lib/config/options.ts'
import { fileVariable } from '../../src/lib/config/secret-files.ts'
import { code, page, table, text } from './markdown.ts'

const INTRO = `# Options

<!-- Generated from src/lib/config/options by \`npm run docs\`. -->

Every option is a flag and an environment variable; the flag takes precedence, and an empty value counts as not given.
\`conveyor server\` and \`conveyor doctor\` take all of them; [cli.md](cli.md) lists those of the other commands. All
problems with options are reported together.

- **Switches**, such as \`--dry\`, take no value; as a variable, they are \`true\` or \`false\`.
- **Lists** (marked "list") take several values: repeat the flag, or separate values with commas.
- **\`[OWNER/NAME:]\`** in front of a value limits it to one repository: \`--build.arg acme/web:MODE=release\`.`

/** docs/options.md */
export function optionsPage(): string {
  const topics = TOPICS.map(({ title, options }) => `## ${title}\n\n${topicTable(options)}`)
  return page(INTRO, ...topics, secrets())
}

function topicTable(options: readonly Option[]): string {
  return table(['Flag', 'Variable', 'Default', 'Description'], options.map(row))
}

function row({ flag, value, form, env, literal, defaultText = '', help }: Option): string[] {
  const name = value === undefined ? `--${flag}` : `--${flag} <${value}>`
  const shown = literal ? code(defaultText) : text(defaultText)
  return [code(name), code(env), shown, `${text(help)}${form === 'list' ? ' (list)' : ''}`]
}

function secrets(): string {
  const variables = [...SECRET_OPTIONS.map(({ env }) => env), 'CONVEYOR_AUTH'].map(fileVariable).map(code)
  const list = new Intl.ListFormat('en-US').format(variables)
  return `## Secrets in files

Flags are visible to every user of the machine, so set secrets as variables, or in files, as Docker and Kubernetes
provide them: \`GITHUB_TOKEN_FILE=/run/secrets/token\`. These variables name a file:
${list}.

Trailing line breaks are not part of the secret. A variable and its \`_FILE\` variable cannot be combined: in a \`.env\`
that \`conveyor bootstrap\` maintains, leave \`BASIC_AUTH=\` empty rather than removing it, or bootstrap adds a new login.`
}
