/** Registries reject manifests over 4 MiB; those of real images have some KiB, and a large index some hundred. */
export const LARGEST_MANIFEST = 1 << 20
/** Longer than any error or token: headers that carry a token are shorter. */
export const LARGEST_ANSWER = 64 << 10

/**
 * The JSON of what a registry sent; undefined if it is none, or longer than `most` bytes: four MiB of empty lists block the
 * event loop for a third of a second.
 */
export function jsonOf(bytes: Uint8Array, most: number): unknown {
  if (bytes.length > most) return undefined
  try {
    return JSON.parse(Buffer.from(bytes).toString())
  } catch {
    return undefined
  }
}
