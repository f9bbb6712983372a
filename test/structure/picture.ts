import type { SourceFile } from './source-tree.ts'

/** Folders of src, as grouped in the diagram, top first. */
export const LAYERS: Record<string, string[]> = {
  'The command line': ['commands', 'cli', 'client', 'doctor', 'bootstrap', 'setup'],
  'The service': ['app', 'server', 'notify', 'telemetry', 'config', 'api'],
  'What happens to a build': ['pipeline'],
  'Adapters, each behind its interface': [
    'store',
    'queue',
    'logs',
    'forge',
    'source',
    'registry',
    'builder',
    'runner',
    'buildkit',
  ],
  'What adapters share': ['docker', 'dockerfile', 'db', 'aws', 'net', 'util'],
  'The nouns': ['core'],
}

/** Folder of src or src/lib -> the folders that its files import. */
export function folderGraph(files: SourceFile[]): Map<string, string[]> {
  const graph = new Map<string, Set<string>>()
  for (const { path, imports } of files) {
    const from = folderOf(path)
    if (from === null) continue
    const targets = graph.get(from) ?? new Set()
    for (const target of imports) {
      const to = folderOf(target)
      if (to !== null && to !== from) targets.add(to)
    }
    graph.set(from, targets)
  }
  return new Map([...graph].sort().map(([from, targets]) => [from, [...targets].sort()]))
}

/** Null for a file directly in src. */
function folderOf(path: string): string | null {
  return /^src\/(?:lib\/)?([^/]+)\//.exec(path)?.[1] ?? null
}

/** The graph without edges that are implied by a longer path. */
export function reduced(graph: ReadonlyMap<string, string[]>): Map<string, string[]> {
  const left = new Map([...graph].map(([from, targets]) => [from, [...targets]]))
  for (const [from, targets] of graph) {
    for (const to of targets) {
      const others = (left.get(from) ?? []).filter((each) => each !== to)
      if (others.some((next) => reaches(left, next, to, from))) left.set(from, others)
    }
  }
  return left
}

/** Whether a path that avoids one node leads from one node to another. */
function reaches(graph: ReadonlyMap<string, string[]>, from: string, to: string, avoided: string): boolean {
  const seen = new Set([from])
  for (const node of seen) {
    for (const next of graph.get(node) ?? []) if (next !== avoided) seen.add(next)
  }
  return seen.has(to)
}

/** A Mermaid flowchart of the folders, with arrows to the folders that each imports. */
function picture(files: SourceFile[]): string {
  const groups = Object.entries(LAYERS).flatMap(([title, folders], i) => [
    `  subgraph layer${i}["${title}"]`,
    ...folders.map((folder) => `    ${folder}`),
    '  end',
  ])
  const edges = [...reduced(folderGraph(files))].flatMap(([from, targets]) =>
    targets.length > 0 ? [`  ${from} --> ${targets.join(' & ')}`] : [],
  )
  return ['```mermaid', 'flowchart TB', ...groups, ...edges, '```'].join('\n')
}

const MARKS = /(<!-- picture: [^>]*-->\n)[\s\S]*?(<!-- end -->)/

/**
 * The page with the diagram between its markers.
 *
 * @throws Error if it has none
 */
export function withPicture(page: string, files: SourceFile[]): string {
  if (!MARKS.test(page)) throw new Error('the page has no marks for the picture')
  return page.replace(MARKS, (_, begin: string, end: string) => `${begin}\n${picture(files)}\n\n${end}`)
}
