import { SCOPES } from '../../core/access/access-token.ts'
import { inNetworks, isEverything, isNetwork } from '../../net/networks.ts'
import { option, SERVER_ONLY, type ValueType } from '../option.ts'
import { listOf, oneOf, value } from '../values.ts'

/** Headers that always come from somewhere else than an authenticating proxy. */
const NOT_A_LOGIN = new Set(['authorization', 'proxy-authorization', 'cookie', 'host', 'origin'])

const headerName = value('the name of a header, such as X-Forwarded-User', (text) => {
  const name = text.toLowerCase()
  return /^[a-z0-9-]{1,60}$/.test(name) && !NOT_A_LOGIN.has(name) ? name : undefined
})

type InNetworks = (address: string) => boolean

/** Not all addresses: then anybody could be any user. */
const network = value('IP addresses or networks, such as 10.0.0.0/8 or fd00::/8', (text) =>
  isNetwork(text) && !isEverything(text) ? text : undefined,
)

/** Whether an address is in one of the networks; null without networks. */
const networks: ValueType<InNetworks, InNetworks | null> = {
  ...listOf(network),
  parse(text, environment) {
    const given = listOf(network).parse(text, environment)
    return given && inNetworks(given)
  },
  unset: null,
}

/** Reverse proxies in front of the server, and the users that they authenticate. */
export const ACCESS = {
  /** In lower case. */
  header: option({
    flag: 'auth.header',
    env: 'AUTH_HEADER',
    help: 'Header in which a proxy of --auth.proxies names the user that it has authenticated, such as X-Forwarded-User',
    value: 'name',
    type: headerName,
    commands: SERVER_ONLY,
  }),
  headerScope: option({
    flag: 'auth.header-scope',
    env: 'AUTH_HEADER_SCOPE',
    help: 'What users of --auth.header may do: read, build, or admin',
    value: 'scope',
    type: oneOf(...SCOPES),
    default: 'build',
    commands: SERVER_ONLY,
  }),
  proxies: option({
    flag: 'auth.proxies',
    env: 'AUTH_PROXIES',
    help: 'Reverse proxies that are trusted to name users and the addresses of clients, such as 10.0.0.5 or 10.0.0.0/8',
    value: 'network',
    type: networks,
    defaultText: 'none',
    commands: SERVER_ONLY,
  }),
}
