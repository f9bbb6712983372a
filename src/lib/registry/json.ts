import { boundedJson } from '../util/bounded-json.ts'

/** Registries reject manifests over 4 MiB; those of real images have some KiB, and a large index some hundred. */
export const LARGEST_MANIFEST = 1 << 20
/** Longer than any error or token: headers that carry a token are shorter. */
export const LARGEST_ANSWER = 64 << 10

/** The JSON of what a registry sent; undefined if it is none, longer than `most` bytes, or would take long to parse. */
export function jsonOf(bytes: Uint8Array, most: number): unknown {
  if (bytes.length > most) return undefined
  try {
    return boundedJson(bytes)
  } catch {
    return undefined
  }
}
