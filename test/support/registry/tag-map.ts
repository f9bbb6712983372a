import type { Registry } from '../../../src/lib/registry/registry.ts'

/** A registry that has any image, and whose tags are in a map, by name to digest. */
export function tagMap(tags: Map<string, string>): Registry {
  return {
    head: async () => null,
    manifest: async (_, digest) => ({ digest, mediaType: '', bytes: new Uint8Array() }),
    putManifest: async (_, tag, { digest }) => void tags.set(tag, digest),
    deleteTag: async (_, tag) => tags.delete(tag),
  }
}
