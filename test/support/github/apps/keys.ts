import { generateKeyPair } from 'node:crypto'
import { promisify } from 'node:util'

const generate = promisify(generateKeyPair)

/** Keys take long to make, so that all doubles of a process share them. */
const keys: Promise<string>[] = []

export function keyOf(number: number): Promise<string> {
  const pem = { type: 'pkcs1', format: 'pem' } as const
  keys[number] ??= generate('rsa', {
    modulusLength: 2048,
    privateKeyEncoding: pem,
    publicKeyEncoding: pem,
  }).then(({ privateKey }) => privateKey)
  return keys[number]
}
