import { encodedLogin } from '../util/percent.ts'

/**
 * A connection URI as people write it, https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS,
 * with its login percent-encoded, as URL parsers want it: a password may have `%`, `@`, `:` and the like as they are.
 * One with `/`, `?` or `#` may mean two things, and is refused.
 * @returns undefined for what is none
 */
export function postgresUrl(text: string): string | undefined {
  const [, scheme, authority = '', rest = ''] = /^(postgres(?:ql)?:\/\/)([^/?#]*)(.*)$/s.exec(text) ?? []
  if (!scheme || authority + rest === '' || isCut(rest)) return undefined
  const at = authority.lastIndexOf('@')
  const login = at < 0 ? '' : `${encodedLogin(authority.slice(0, at))}@`
  const url = `${scheme}${login}${authority.slice(at + 1)}${rest}`
  return URL.canParse(url) ? url : undefined
}

/** How what postgresUrl takes is explained. */
export const POSTGRES_FORM =
  'postgres://USER:PASSWORD@HOST/NAME, where the password has %2F for /, %3F for ? and %23 for #'

/** Whether what follows the host is rather the rest of a password. Parameters may have an `@`: `?user=me@server`. */
function isCut(rest: string): boolean {
  const [path = '', ...parameters] = rest.split('?')
  const [first = ''] = parameters.join('?').split('&')
  const [name = ''] = first.split('=')
  return path.includes('@') || name.includes('@')
}
