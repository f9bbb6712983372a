import type { Kind } from '../kind.ts'
import { buildkitKind } from './buildkit.ts'
import { commitPartsKind } from './commit-parts.ts'
import { dockerfileKind } from './dockerfile.ts'
import { engineKind } from './engine.ts'
import { githubKind } from './github.ts'
import { httpKind } from './http.ts'
import { orderKind } from './order.ts'
import { patternsKind } from './patterns.ts'
import { registryKind } from './registry.ts'
import { treeKind } from './tree.ts'
import { webhookKind } from './webhook.ts'

/** All kinds of inputs, by name. */
export const KINDS: Record<string, Kind> = {
  webhook: webhookKind,
  github: githubKind,
  http: httpKind,
  order: orderKind,
  dockerfile: dockerfileKind,
  patterns: patternsKind,
  tree: treeKind,
  'commit-parts': commitPartsKind,
  registry: registryKind,
  engine: engineKind,
  buildkit: buildkitKind,
}
