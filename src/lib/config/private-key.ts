import { createPrivateKey } from 'node:crypto'
import { value } from './values.ts'

/** An RSA key in PEM, as GitHub gives it, or on one line with `\n` in place of its line breaks; read as PKCS #8. */
export const rsaPrivateKey = value(
  'the private key of a GitHub App (PEM, which begins with -----BEGIN RSA PRIVATE KEY-----)',
  (text) => {
    try {
      const key = createPrivateKey(text.replaceAll('\\n', '\n'))
      return key.asymmetricKeyType === 'rsa'
        ? key.export({ type: 'pkcs8', format: 'pem' }).toString()
        : undefined
    } catch {
      return undefined
    }
  },
)
