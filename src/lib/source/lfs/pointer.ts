/** A file in Git LFS. */
export interface LfsObject {
  /** SHA-256 of its content, in hex. */
  oid: string
  /** In bytes. */
  size: number
}

export interface LfsPointer extends LfsObject {
  /** Programs of the author's machine that the content went through; empty for nearly all. */
  extensions: string[]
}

/** Blobs of this size and more are never pointers, in bytes. */
export const POINTER_LIMIT = 1024

const VERSIONS = [
  'https://git-lfs.github.com/spec/v1',
  // Before its release.
  'https://hawser.github.com/spec/v1',
  'http://git-media.io/v/2',
]
const KEYS = ['version', 'oid', 'size']

/**
 * Reads a pointer as git-lfs does; null for any other content.
 * https://github.com/git-lfs/git-lfs/blob/v3.3.0/lfs/pointer.go#L105
 */
export function parsePointer(blob: Uint8Array): LfsPointer | null {
  const values: string[] = []
  const extensions: string[] = []
  for (const line of Buffer.from(blob).toString('latin1').trim().split(/\r?\n/)) {
    if (line === '') continue
    const [, key = '', value = ''] = /^(\S+) (.*)$/.exec(line) ?? []
    if (values.length === KEYS.length) return null
    if (key === KEYS[values.length]) values.push(value)
    else if (/^ext-\d-\w+/.test(key)) extensions.push(key)
    else return null
  }
  const [version = '', id = '', bytes = ''] = values
  const oid = /^sha256:([0-9a-f]{64})$/.exec(id)?.[1]
  if (!VERSIONS.includes(version) || oid === undefined || !/^\d{1,15}$/.test(bytes)) return null
  return { oid, size: Number(bytes), extensions }
}
