import { createHash } from 'node:crypto'
import { NO_SETTINGS } from '../core/settings.ts'
import type { Context, ContextEntry } from '../source/source.ts'
import type { BuildInput } from './builder.ts'

/**
 * A build whose only step adds a small file to an image, which makes BuildKit pull and unpack all layers of that image
 * and keep them for other builds.
 * @param image with a tag or a digest
 */
export function pullLayersInput(image: string): BuildInput {
  return {
    ...NO_SETTINGS,
    context: contextOf(`FROM ${image}\nCOPY Dockerfile /\n`),
    reference: image,
    push: false,
    cacheKey: 'conveyor/layers-of',
    cacheNamespace: null,
    sync: null,
    cache: true,
    cacheFrom: [],
    labels: {},
    secrets: {},
    epoch: 0,
  }
}

/** A context with nothing but a Dockerfile. */
function contextOf(dockerfile: string): Context {
  const bytes = Buffer.from(dockerfile)
  const entry: ContextEntry = {
    path: 'Dockerfile',
    rawPath: Buffer.from('Dockerfile'),
    kind: 'file',
    mode: 0o644,
    size: bytes.length,
    contentId: createHash('sha1').update(bytes).digest('hex'),
    linkTarget: Buffer.alloc(0),
  }
  return {
    dockerfile: 'Dockerfile',
    dockerfileEntry: entry,
    entries: [entry],
    dockerfileEntries: [entry],
    entriesWithout: async () => [entry],
    async *read() {
      yield bytes
    },
    async close() {},
  }
}
