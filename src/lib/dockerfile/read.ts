/** Longer than any Dockerfile that people write, in bytes. */
const MAX_BYTES = 1 << 20

/** A build context, as far as its Dockerfile is concerned; see Context in source/source.ts. */
interface DockerfileContext<Entry> {
  dockerfileEntry: Entry
  read(entry: Entry, signal?: AbortSignal): AsyncIterable<Uint8Array>
}

/** The text of a context's Dockerfile; null if it is over 1 MiB. */
export async function dockerfileText<Entry extends { size: number }>(
  context: DockerfileContext<Entry>,
  signal: AbortSignal,
): Promise<string | null> {
  const file = context.dockerfileEntry
  if (file.size > MAX_BYTES) return null
  const chunks: Uint8Array[] = []
  for await (const chunk of context.read(file, signal)) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}
