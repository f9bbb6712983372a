import { percentDecoded } from '../util/percent.ts'

/** Whether a text may be a URL with a password in it, however it is spelled. */
export function hasPassword(text: string): boolean {
  const login = text.slice(text.indexOf('://') + 3, Math.max(0, text.lastIndexOf('@')))
  return (text.includes('://') && login.includes(':')) || /[?&]password=./.test(text)
}

/** The password of a URL, encoded and decoded; Postgres takes it as a parameter, too. */
export function passwordsOf(url: string | null): string[] {
  const { password = '', searchParams } = URL.parse(url ?? '') ?? {}
  const all = [password, percentDecoded(password), searchParams?.get('password') ?? '']
  return [...new Set(all)].filter((one) => one !== '')
}

/** A text without what may be the login of a URL, or a token for the API. */
export function withoutPassword(text: string): string {
  return text
    .replace(/\/\/.*@/s, '//[redacted]@')
    .replace(/([?&]password=)[^&]*/g, '$1[redacted]')
    .replace(/cvy_[\w-]+/g, '[redacted]')
}
