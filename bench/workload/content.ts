import { createCipheriv, createHash } from 'node:crypto'

/** Bytes that look random and do not compress; the same for the same seed on every machine. */
export function noise(seed: string, size: number): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

/** Numbers that look random, the same for the same seed. */
export class Dice {
  readonly #seed: string
  #block: Buffer = Buffer.alloc(0)
  #blocks = 0
  #at = 0

  constructor(seed: string) {
    this.#seed = seed
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    if (this.#at + 4 > this.#block.length) {
      this.#block = noise(`${this.#seed}/${this.#blocks++}`, 4096)
      this.#at = 0
    }
    const number = this.#block.readUInt32LE(this.#at)
    this.#at += 4
    return number % limit
  }
}

const WORDS = Array.from({ length: 2000 }, (_, i) => {
  const dice = new Dice(`word ${i}`)
  const letters = Array.from({ length: 3 + dice.below(8) }, () => 'etaoinshrdlucmfpgwyb'[dice.below(20)])
  return letters.join('')
})

/** Something like source code; it compresses about 3:1. */
export function sourceText(seed: string, size: number): string {
  const dice = new Dice(seed)
  const word = () => WORDS[dice.below(WORDS.length)]
  const lines: string[] = []
  for (let length = 0; length < size; length += lines.at(-1)?.length ?? 0) {
    const number = dice.below(100_000)
    const line = [
      `  const ${word()} = ${word()}.${word()}(${word()}, ${number})\n`,
      `  if (${word()} > ${number}) return ${word()}[${word()}]\n`,
      `  // ${word()} ${word()} ${word()} ${word()} ${word()}\n`,
      `export function ${word()}(${word()}: ${word()}): ${word()} {\n`,
    ][dice.below(4)]
    lines.push(line ?? '')
  }
  return lines.join('')
}

/** Something like a font or a picture inlined as text; it compresses about 4:3. */
export function assetText(seed: string, size: number): string {
  return noise(seed, Math.ceil(size * 0.74))
    .toString('base64')
    .replaceAll(/.{76}/g, '$&\n')
}
