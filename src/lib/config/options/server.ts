import { looksLikeToken } from '../../core/access/access-token.ts'
import { option, SERVER_ONLY } from '../option.ts'
import {
  anyText,
  baseUrl,
  listOf,
  matching,
  oneOf,
  parseCredentials,
  repositoryPattern,
  value,
  wholeNumber,
} from '../values.ts'

const credentials = value(
  'user:pass, or none; a pass that begins with cvy_ would be taken for a token',
  (text) => {
    if (text === 'none') return text
    const login = parseCredentials(text)
    return login && looksLikeToken(login.password) ? undefined : login
  },
)

/** A host name, `*.` and a domain, or `*`. */
const hostPattern = matching('host names without port', /^(\*|(\*\.)?[\w-]+(\.[\w-]+)*)$/)

/** Where the server listens, and whom it answers. */
export const SERVER = {
  port: option({
    flag: 'port',
    env: 'PORT',
    help: 'Port to listen on; 0 picks a free port',
    value: 'number',
    type: wholeNumber(0, 65_535, 'a port number'),
    default: '8080',
    commands: SERVER_ONLY,
  }),
  host: option({
    flag: 'host',
    env: 'HOST',
    help: 'Address to listen on',
    value: 'address',
    type: anyText,
    default: '0.0.0.0',
    commands: SERVER_ONLY,
  }),
  /** Without a slash at its end. */
  url: option({
    flag: 'url',
    env: 'BASE_URL',
    help: 'Public base URL of the server, for links in commit statuses',
    value: 'url',
    type: baseUrl,
    defaultText: 'http://localhost:PORT',
  }),
  /** `none` answers everybody; null answers this machine alone. */
  auth: option({
    flag: 'auth',
    env: 'BASIC_AUTH',
    help: 'Login required for the API, logs, and pages; none disables authentication',
    value: 'user:pass|none',
    type: credentials,
    defaultText: 'only requests from this machine are allowed',
    secret: 'all',
    commands: SERVER_ONLY,
  }),
  allowedHosts: option({
    flag: 'allowed-hosts',
    env: 'ALLOWED_HOSTS',
    help: 'Host names to accept besides that of --url, localhost, and IP addresses: conveyor.lan, *.example.com, or * for any',
    value: 'name',
    type: listOf(hostPattern),
    commands: SERVER_ONLY,
  }),
  badges: option({
    flag: 'badges',
    env: 'BADGES',
    help: 'Who sees the states that badges show: anyone, as READMEs on GitHub need it, or only those with a login',
    value: 'public|private',
    type: oneOf('public', 'private'),
    default: 'private',
    commands: SERVER_ONLY,
  }),
  /** An empty list allows all. */
  allow: option({
    flag: 'allow',
    env: 'ALLOW',
    help: 'Repositories that may be built, such as acme/*',
    value: 'owner/name',
    type: listOf(repositoryPattern),
    defaultText: 'all',
    commands: SERVER_ONLY,
  }),
}
