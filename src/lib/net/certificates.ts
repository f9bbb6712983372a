/**
 * Codes of errors for a certificate that nobody we know has signed:
 * https://nodejs.org/api/tls.html#x509-certificate-error-codes
 */
const UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])

/** Whether an error, or one that it comes from, says that a certificate is not trusted. */
export function isUntrusted(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (UNTRUSTED.has((error as NodeJS.ErrnoException).code ?? '')) return true
    if (error instanceof AggregateError && error.errors.some(isUntrusted)) return true
  }
  return false
}

/** What to do then, where Node's own list of authorities counts. */
export const TRUST_HINT =
  'Its certificate is not trusted: point NODE_EXTRA_CA_CERTS at that of its authority, or at its own if it is self-signed'
