import type { SourceFile } from './source-tree.ts'

/** File -> the files that it imports. */
type Graph = ReadonlyMap<string, readonly string[]>

export function graphOf(files: SourceFile[]): Graph {
  return new Map(files.map(({ path, imports }) => [path, imports]))
}

/** Whether the file is this entry, or in the folder that the entry names. */
export function isIn(file: string, entry: string): boolean {
  return file === entry || file.startsWith(`${entry}/`)
}

/** The longest entry that contains the file. */
function entryOf(file: string, entries: string[]): string | undefined {
  return entries.filter((entry) => isIn(file, entry)).sort((a, b) => b.length - a.length)[0]
}

/**
 * Imports that no rule allows, one per line. A file may import from its own entry, and from those that the entry lists.
 * A file outside all entries may not import anything in the tree.
 */
export function forbiddenImports(files: SourceFile[], allowed: Record<string, string[]>): string[] {
  return files.flatMap(({ path, imports }) => {
    const entry = entryOf(path, Object.keys(allowed))
    const targets = entry === undefined ? [] : [entry, ...(allowed[entry] ?? [])]
    return imports
      .filter((target) => !targets.some((each) => isIn(target, each)))
      .map((target) => `${path} imports ${target}`)
  })
}

/** Imports between entries of the same group, one per line. */
export function importsBetween(files: SourceFile[], groups: string[][]): string[] {
  return groups.flatMap((group) =>
    files.flatMap(({ path, imports }) => {
      const own = entryOf(path, group)
      if (own === undefined) return []
      return imports
        .filter((target) => ![own, undefined].includes(entryOf(target, group)))
        .map((target) => `${path} imports ${target}`)
    }),
  )
}

/** One cycle from each knot of files that import each other, shortest first: `a -> b -> a`. */
export function cycles(graph: Graph): string[] {
  return knots(graph)
    .map((knot) => shortestCycle(graph, new Set(knot)))
    .sort((a, b) => a.length - b.length)
    .map((cycle) => cycle.join(' -> '))
}

/** Strongly connected components of more than one node, and nodes with an edge to themselves (Tarjan's algorithm). */
function knots(graph: Graph): string[][] {
  const found: string[][] = []
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const open = new Set<string>()

  function visit(node: string): number {
    const own = index.size
    index.set(node, own)
    let lowest = own
    stack.push(node)
    open.add(node)
    for (const next of graph.get(node) ?? []) {
      if (!index.has(next)) lowest = Math.min(lowest, visit(next))
      else if (open.has(next)) lowest = Math.min(lowest, low.get(next) ?? index.get(next) ?? own)
    }
    low.set(node, lowest)
    if (lowest === own) {
      const knot = stack.splice(stack.indexOf(node))
      for (const each of knot) open.delete(each)
      if (knot.length > 1 || graph.get(node)?.includes(node)) found.push(knot)
    }
    return lowest
  }

  for (const node of graph.keys()) if (!index.has(node)) visit(node)
  return found
}

function shortestCycle(graph: Graph, knot: ReadonlySet<string>): string[] {
  const all = [...knot].map((start) => pathBack(graph, knot, start))
  return all.reduce((best, cycle) => (cycle.length < best.length ? cycle : best))
}

/** The shortest path from a node of a knot back to itself. */
function pathBack(graph: Graph, knot: ReadonlySet<string>, start: string): string[] {
  let paths = [[start]]
  const seen = new Set<string>()
  while (paths.length > 0) {
    const longer: string[][] = []
    for (const path of paths) {
      for (const next of graph.get(path.at(-1) ?? start) ?? []) {
        if (next === start) return [...path, start]
        if (!knot.has(next) || seen.has(next)) continue
        seen.add(next)
        longer.push([...path, next])
      }
    }
    paths = longer
  }
  throw new Error(`${start} is in no cycle`)
}

/** Files that use members of `process` reserved for others. `*` stands for any member. */
export function forbiddenProcessUses(files: SourceFile[], owners: Record<string, string[]>): string[] {
  return files.flatMap(({ path, processMembers }) =>
    processMembers
      .filter((member) =>
        Object.entries(owners).some(
          ([owned, places]) =>
            (member === owned || member === '*') && !places.some((place) => isIn(path, place)),
        ),
      )
      .map((member) => `${path} uses process.${member}`),
  )
}
