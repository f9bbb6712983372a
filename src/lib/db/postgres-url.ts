import { encodedLogin } from '../util/percent.ts'

/**
 * Normalizes a connection URI, https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS: its
 * login becomes percent-encoded, as URL parsers require. A password may contain a literal `%`, `@`, `:` and the like, but
 * not `/`, `?` or `#`, which would be ambiguous.
 * @returns undefined if it is not a valid one
 */
export function postgresUrl(text: string): string | undefined {
  const [, scheme, authority = '', rest = ''] = /^(postgres(?:ql)?:\/\/)([^/?#]*)(.*)$/s.exec(text) ?? []
  if (!scheme || authority + rest === '' || isCut(rest)) return undefined
  const at = authority.lastIndexOf('@')
  const login = at < 0 ? '' : `${encodedLogin(authority.slice(0, at))}@`
  const url = `${scheme}${login}${authority.slice(at + 1)}${rest}`
  return URL.canParse(url) ? url : undefined
}

/** What postgresUrl accepts, for messages. */
export const POSTGRES_FORM =
  'postgres://USER:PASSWORD@HOST/NAME, with %2F for /, %3F for ? and %23 for # in the password'

/** Whether the part after the host is really the rest of a password. Parameters may contain an `@`: `?user=me@server`. */
function isCut(rest: string): boolean {
  const [path = '', ...parameters] = rest.split('?')
  const [first = ''] = parameters.join('?').split('&')
  const [name = ''] = first.split('=')
  return path.includes('@') || name.includes('@')
}
