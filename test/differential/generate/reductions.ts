import { type Bytes, type Commit, type Entry, type History, keyOf, type Tree } from './model.ts'

/** Histories that are a little smaller, the boldest reductions first. */
export function* reductions({ commits }: History): Generator<History> {
  yield* withoutCommits(commits)
  if (commits.some(({ pruned }) => pruned))
    yield { commits: commits.map((commit) => ({ ...commit, pruned: false })) }
  if (commits.some(({ base }) => base !== 1))
    yield { commits: commits.map((commit) => ({ ...commit, base: 1 })) }
  yield* withoutPaths(commits)
  yield* withoutPathsOfSubmodules(commits)
  yield* withoutLines(commits)
  yield* withPlainContents(commits)
}

function* withoutCommits(commits: readonly Commit[]): Generator<History> {
  if (commits.length < 2) return
  yield { commits: commits.slice(0, Math.ceil(commits.length / 2)) }
  for (const index of commits.keys()) yield { commits: commits.filter((_, at) => at !== index) }
}

function* withoutPaths(commits: readonly Commit[]): Generator<History> {
  const paths = [...new Set(commits.flatMap(({ tree }) => [...tree.keys()]))].filter(
    (path) => !/^dockerfile$/i.test(path),
  )
  const without = (some: Bytes[]) => ({
    commits: commits.map((commit) => ({
      ...commit,
      tree: new Map([...commit.tree].filter(([path]) => !some.includes(path))),
    })),
  })
  if (paths.length > 3) {
    const half = Math.ceil(paths.length / 2)
    yield without(paths.slice(half))
    yield without(paths.slice(0, half))
  }
  for (const path of paths) yield without([path])
}

/** Without one path of a submodule, or of one in it. */
function* withoutPathsOfSubmodules(commits: readonly Commit[]): Generator<History> {
  const paths = new Set(
    commits.flatMap(({ tree }) => [...tree].flatMap(([at, entry]) => insideOf(at, entry))),
  )
  for (const path of paths) {
    yield { commits: commits.map((commit) => ({ ...commit, tree: withoutInside(commit.tree, path) })) }
  }
}

function insideOf(at: Bytes, entry: Entry): Bytes[] {
  if (entry.kind !== 'submodule') return []
  return [...entry.tree].flatMap(([path, one]) => [
    `${at}/${path}`,
    ...insideOf(path, one).map((inside) => `${at}/${inside}`),
  ])
}

function withoutInside(tree: Tree, path: Bytes): Tree {
  return new Map(
    [...tree].flatMap(([at, entry]): [Bytes, Entry][] => {
      if (at === path) return []
      if (entry.kind !== 'submodule' || !path.startsWith(`${at}/`)) return [[at, entry]]
      return [[at, { ...entry, tree: withoutInside(entry.tree, path.slice(at.length + 1)) }]]
    }),
  )
}

/** Lines of a Dockerfile without which a run would share layers with another run, or an image of the same name. */
const KEPT = /^$|@RUN@| AS first$/

/** Without one line of a Dockerfile, or of a file that says how others are treated. */
function* withoutLines(commits: readonly Commit[]): Generator<History> {
  const lines = new Map<string, [Bytes, string]>()
  for (const { tree } of commits) {
    for (const [path, entry] of tree) {
      if (entry.kind !== 'file' || !/dockerfile|ignore$|attributes$|modules$|\.df$/i.test(path)) continue
      for (const line of entry.content.split('\n'))
        if (!KEPT.test(line)) lines.set(`${path}\n${line}`, [path, line])
    }
  }
  for (const [at, line] of lines.values()) {
    yield mapped(commits, (path, entry) => {
      if (path !== at || entry.kind !== 'file') return entry
      return {
        ...entry,
        content: entry.content
          .split('\n')
          .filter((one) => one !== line)
          .join('\n'),
      }
    })
  }
}

/** Contents that are long or executable become short and plain. */
function* withPlainContents(commits: readonly Commit[]): Generator<History> {
  const paths = new Set(
    commits.flatMap(({ tree }) => [...tree].filter(([, one]) => one.kind === 'file').map(([path]) => path)),
  )
  for (const at of paths) {
    if (/dockerfile|ignore$|attributes$|modules$|\.df$/i.test(at)) continue
    const plain = (content: Bytes) => (content.length > 20 ? content.slice(0, 8) : content)
    const smaller = mapped(commits, (path, entry) =>
      path === at && entry.kind === 'file'
        ? { ...entry, content: plain(entry.content), executable: false }
        : entry,
    )
    if (
      keyOf(smaller.commits.map(({ tree }) => tree.get(at))) !==
      keyOf(commits.map(({ tree }) => tree.get(at)))
    )
      yield smaller
  }
}

function mapped(commits: readonly Commit[], change: (path: Bytes, entry: Entry) => Entry): History {
  return {
    commits: commits.map((commit) => ({
      ...commit,
      tree: new Map([...commit.tree].map(([path, entry]) => [path, change(path, entry)])),
    })),
  }
}
