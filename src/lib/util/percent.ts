/**
 * Decodes percent-encoded text leniently, as people often put passwords into URLs unencoded: a `%` that does not start an
 * escape stands for itself, and text that would not decode to UTF-8 is left as it is.
 */
export function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text.replace(/%(?![\da-f]{2})/gi, '%25'))
  } catch {
    return text
  }
}

/** Percent-encodes the login before the `@` of a URL, as URL parsers require, whether or not it is already encoded. */
export function encodedLogin(login: string): string {
  const colon = login.indexOf(':')
  const parts = colon < 0 ? [login] : [login.slice(0, colon), login.slice(colon + 1)]
  return parts.map((part) => encodeURIComponent(percentDecoded(part))).join(':')
}
