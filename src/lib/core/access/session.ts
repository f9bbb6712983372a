import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'

/** Somebody who has signed in at the forge. */
export interface Person {
  /** Of the forge; names can change hands. */
  id: number
  login: string
}

/** What a server knows of somebody who is signed in. */
interface SignInSession {
  person: Person
  /** The person's token at the forge, which only the key in their browser opens: see sealed. */
  sealed: string
}

/** The sessions that a store has, by the hashes of their keys. */
export interface Sessions {
  /** Also removes those that are over. */
  start(hash: string, session: SignInSession, lifeSeconds: number): Promise<void>
  /** The session with this hash, unless it is over by the clock of the store. */
  find(hash: string): Promise<SignInSession | null>
  end(hash: string): Promise<void>
}

const KEY = /^[\w-]{43}$/
const IV_BYTES = 12
const TAG_BYTES = 16

/** The key of a new session: 256 random bits, which only the browser keeps. */
export function newSessionKey(): string {
  return randomBytes(32).toString('base64url')
}

export function isSessionKey(text: string): boolean {
  return KEY.test(text)
}

/** What the store knows of a key: SHA-256 in hex. */
export function sessionHash(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}

/** Encrypts a text (AES-256-GCM), so that nobody can read it who has only the store. */
export function sealed(text: string, key: string): string {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', sealingKey(key), iv)
  const bytes = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()])
  return Buffer.concat([iv, cipher.getAuthTag(), bytes]).toString('base64')
}

/** The text again; null if it was sealed with another key. */
export function unsealed(text: string, key: string): string | null {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.length < IV_BYTES + TAG_BYTES) return null
  const decipher = createDecipheriv('aes-256-gcm', sealingKey(key), bytes.subarray(0, IV_BYTES))
  decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
  try {
    return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]).toString()
  } catch {
    return null
  }
}

/** Not the hash of the key, which the store has. */
function sealingKey(key: string): Buffer {
  return Buffer.from(hkdfSync('sha256', key, '', 'conveyor session', 32))
}
