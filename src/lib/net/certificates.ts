/**
 * Error codes for certificates without a trusted issuer:
 * https://nodejs.org/api/tls.html#x509-certificate-error-codes
 */
const UNTRUSTED = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])

/** Whether an error, or one of its causes, is an untrusted certificate. */
export function isUntrusted(thrown: unknown): boolean {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (UNTRUSTED.has((error as NodeJS.ErrnoException).code ?? '')) return true
    if (error instanceof AggregateError && error.errors.some(isUntrusted)) return true
  }
  return false
}

/** What to do about it, for connections that use Node's list of authorities. */
export const TRUST_HINT =
  'Its certificate is not trusted: set NODE_EXTRA_CA_CERTS to the file of its CA certificate, or of its own certificate if it is self-signed'
