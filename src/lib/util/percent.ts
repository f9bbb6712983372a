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
