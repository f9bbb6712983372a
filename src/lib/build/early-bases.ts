import type { Builder } from '../builder/builder.ts'
import type { Build } from './build.ts'
import type { BuildSettings } from './recipe.ts'

export interface EarlyParts {
  builder: Builder
  /** Reads a file of a commit by a way that is shorter than git's, where there is one; null when there is not. */
  readEarly?(repository: string, sha: string, path: string, signal: AbortSignal): Promise<string | null>
  /** What is set for the builds of a repository. */
  settings(repository: string): BuildSettings
}

/**
 * Has the layers of a build's base images fetched while its commit is still on its way, where its Dockerfile
 * can be read without it.
 */
export async function fetchBasesEarly(
  build: Build,
  imageName: string,
  parts: EarlyParts,
  signal: AbortSignal,
): Promise<void> {
  const { repository, sha } = build
  const text = await parts.readEarly?.(repository, sha, 'Dockerfile', signal)
  if (!text) return
  const bases = basesOf(text, parts.settings(repository))
  await Promise.all(bases.map((name) => parts.builder.prefetchBase(imageName, name, signal)))
}

interface Stage {
  /** In lower case, as stages are found whatever their case. */
  name: string | undefined
  /** Images or stages that it is made from. */
  uses: string[]
}

/**
 * The images that the target of a Dockerfile, or its last stage, is made from: by FROM, COPY --from and
 * --mount=from, through all the stages that it needs. A guess: what depends on more than plain arguments is
 * left out. (https://docs.docker.com/reference/dockerfile/)
 */
export function basesOf(
  dockerfile: string,
  settings: Pick<BuildSettings, 'buildArgs' | 'target' | 'contexts'>,
): string[] {
  const stages = stagesOf(dockerfile, settings.buildArgs)
  const indexOf = (name: string, before: number) => {
    const index = stages.slice(0, before).findLastIndex((stage) => stage.name === name.toLowerCase())
    return /^\d+$/.test(name) && Number(name) < before ? Number(name) : index
  }
  const target = settings.target === null ? -1 : indexOf(settings.target, stages.length)
  const images = new Set<string>()
  const visited = new Set<number>()
  const visit = (index: number) => {
    if (visited.has(index)) return
    visited.add(index)
    for (const name of stages[index]?.uses ?? []) {
      const stage = indexOf(name, index)
      const context = settings.contexts[name]
      const image = /^docker-image:\/\/(.+)/.exec(context ?? '')?.[1]
      if (image) images.add(image)
      else if (context) continue
      else if (stage >= 0) visit(stage)
      else if (name !== 'scratch') images.add(name)
    }
  }
  visit(target >= 0 ? target : stages.length - 1)
  return [...images]
}

function stagesOf(dockerfile: string, buildArgs: Record<string, string>): Stage[] {
  const stages: Stage[] = []
  const globals = new Map<string, string>()
  for (const line of dockerfile.replace(/\\\r?\n/g, ' ').split(/\r?\n/)) {
    const stage = stages.at(-1)
    const from = /^\s*FROM\s+(\S+)(?:\s+AS\s+(\S+))?\s*$/i.exec(line)
    const arg = /^\s*ARG\s+(\w+)(?:=(\S*))?\s*$/i.exec(line)
    if (from) {
      const image = substituted(from[1] ?? '', globals)
      stages.push({ name: from[2]?.toLowerCase(), uses: image === null ? [] : [image] })
    } else if (/^\s*FROM\s/i.test(line)) {
      // Of another platform, mostly.
      stages.push({ name: /\sAS\s+(\S+)/i.exec(line)?.[1]?.toLowerCase(), uses: [] })
    } else if (arg && !stage) {
      const value = buildArgs[arg[1] ?? ''] ?? arg[2]?.replace(/^(["'])(.*)\1$/, '$2')
      if (value !== undefined) globals.set(arg[1] ?? '', value)
    } else if (stage && /^\s*(COPY|ADD|RUN)\s/i.test(line)) {
      const named = line.matchAll(/(?:\s--from=|[=,]from=)([^\s,$]+)(?=[\s,])/g)
      for (const [, name = ''] of named) stage.uses.push(name)
    }
  }
  return stages
}

/** With the values of `$NAME`, `${NAME}` and `${NAME:-default}`; null when one is not known. */
function substituted(text: string, values: Map<string, string>): string | null {
  let known = true
  const result = text.replace(/\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})/g, (_, plain, braced, fallback) => {
    const value = values.get(plain ?? braced) ?? fallback
    known &&= value !== undefined
    return value ?? ''
  })
  return known && !/["'$]/.test(result) ? result : null
}
