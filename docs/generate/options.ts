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
  return page(INTRO, ...topics, secrets(), others())
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
  const variables = [...SECRET_OPTIONS.map(({ env }) => env), 'CONVEYOR_AUTH', 'CONVEYOR_TOKEN']
    .map(fileVariable)
    .map(code)
  const list = new Intl.ListFormat('en-US').format(variables)
  return `## Secrets in files

Flags are visible to every user of the machine, so set secrets as variables, or in files, as Docker and Kubernetes
provide them: \`GITHUB_TOKEN_FILE=/run/secrets/token\`. These variables name a file:
${list}.

Trailing line breaks are not part of the secret. A variable and its \`_FILE\` variable cannot be combined, except for the login
of a client such as \`conveyor list\`, where the variable takes precedence. In a \`.env\` that \`conveyor bootstrap\` maintains, leave
\`BASIC_AUTH=\` empty rather than removing it, or bootstrap adds a new login.`
}

/** What the environment alone sets, in the order of who reads it: clients, then servers and workers. */
const OTHER_VARIABLES: readonly [variables: string[], meaning: string][] = [
  [['CONVEYOR_URL'], 'The server that commands such as `conveyor build` and `conveyor list` use'],
  [['CONVEYOR_AUTH', 'CONVEYOR_TOKEN'], 'Their login or token; without either, `BASIC_AUTH`'],
  [['CONVEYOR_PROGRESS'], 'How `conveyor build` and `conveyor logs` show a build ([cli.md](cli.md))'],
  [['TRACEPARENT'], 'The trace that `conveyor build` continues ([traces](operations.md#traces))'],
  [['NO_COLOR'], 'No colors'],
  [['SSH_DIR'], "The key's directory, for `conveyor bootstrap`"],
  [['DOCKER_HOST'], "The engine's socket or address; by default `/var/run/docker.sock`"],
  [
    ['DOCKER_CONFIG'],
    "The directory of Docker's `config.json` with the registry logins; by default `~/.docker`",
  ],
  [['SSH_AUTH_SOCK'], 'The SSH agent that git uses'],
  [
    ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'],
    '[Proxies](deploy.md#proxies-and-private-certificate-authorities)',
  ],
  [
    ['NODE_EXTRA_CA_CERTS', 'GIT_SSL_CAINFO'],
    'Certificates of [private authorities](deploy.md#proxies-and-private-certificate-authorities)',
  ],
  [['NODE_COMPILE_CACHE'], "Node's compile cache; by default `~/.cache/conveyor`"],
  [['SQS_QUEUE_URL'], 'The queue of `--queue sqs://`'],
  [
    ['AWS_REGION', 'AWS_ACCESS_KEY_ID', 'AWS_…'],
    'Region, credentials, and endpoint, as the AWS SDK reads them ([SQS](deploy.md#several-machines-with-sqs))',
  ],
  [['OTEL_EXPORTER_OTLP_ENDPOINT', 'OTEL_…'], 'Where [traces](operations.md#traces) go'],
]

function others(): string {
  const rows = OTHER_VARIABLES.map(([variables, meaning]) => [variables.map(code).join(', '), meaning])
  return `## Other variables

These have no flag, or are for clients of a server:

${table(['Variable', 'Description'], rows)}`
}
