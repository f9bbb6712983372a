import { createHash } from 'node:crypto'
import { NO_SETTINGS } from '../core/settings.ts'
import type { Context, ContextEntry } from '../source/source.ts'
import type { BuildInput } from './builder.ts'

/**
 * A build whose only step puts a small file on top of an image: BuildKit fetches and unpacks all of its
 * layers for that, and has them for any other build.
 * @param image by its tag or its digest
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

/** A context that has a Dockerfile, and nothing else. */
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
    entries: [entry],
    dockerfileEntries: [entry],
    async *read() {
      yield bytes
    },
    async close() {},
  }
}
