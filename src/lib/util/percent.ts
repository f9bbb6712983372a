/**
 * Percent-encoded text as it is meant. People write passwords into URLs as they are: a `%` that begins no code
 * stands for itself, as everything does in a text that is not of UTF-8 when decoded.
 */
export function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text.replace(/%(?![\da-f]{2})/gi, '%25'))
  } catch {
    return text
  }
}

/** A login as it stands before the `@` of a URL, encoded as URL parsers want it: it may have been written as it is. */
export function encodedLogin(login: string): string {
  const colon = login.indexOf(':')
  const parts = colon < 0 ? [login] : [login.slice(0, colon), login.slice(colon + 1)]
  return parts.map((part) => encodeURIComponent(percentDecoded(part))).join(':')
}
