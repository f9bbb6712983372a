import { type Bytes, type Commit, keyOf, same, shown, type Tree } from '../generate/model.ts'
import type { ReferenceOutcome, UNABLE } from '../reference.ts'
import type { SubjectOutcome } from '../subject.ts'
import type { Image, ImageEntry } from './image.ts'

/** Folder of an image whose files record which of two files was newer: see `comparableProbes`. */
export const PROBES = 'probe/'
/** Folders of an image that depend on times in any way. */
const TIMED = /^(probe|out|o)(\/|$)/

/** Where generated repositories have their Dockerfile, or a link to it and its target. */
const DOCKERFILES = /^(dockerfile|build\/app\.df)$/i

/** Which parts of a commit's image can be compared. */
export interface Rules {
  /** Paths of context files whose probes must be the same. */
  probes: ReadonlySet<Bytes>
  /** Whether to compare files that steps created because something was newer. */
  timed: boolean
}

/** A description of how the two results differ; null if they do not. */
export function difference(
  ours: SubjectOutcome,
  theirs: Exclude<ReferenceOutcome, typeof UNABLE>,
  rules: Rules,
): string | null {
  const { failure, image } = ours
  if (failure && failure.kind !== 'build_failed') {
    const reference = 'error' in theirs ? `failed too:\n${theirs.error}` : 'built it'
    return `Conveyor failed with ${failure.kind} after ${(ours.ms / 1000).toFixed(1)} s:\n${failure.error}\nthe reference ${reference}`
  }
  if ('error' in theirs) return failure ? null : `Conveyor built it, the reference failed:\n${theirs.error}`
  if (!image) return `Conveyor failed, the reference built it:\n${failure?.error}`
  const lines = [...fileDifferences(image, theirs.image, rules), ...configDifferences(image, theirs.image)]
  return lines.length > 0 ? lines.join('\n') : null
}

function fileDifferences(ours: Image, theirs: Image, rules: Rules): string[] {
  const lines: string[] = []
  for (const path of new Set([...ours.files.keys(), ...theirs.files.keys()])) {
    if (!isCompared(path, rules)) continue
    const [one, other] = [ours.files.get(path), theirs.files.get(path)]
    if (!one) lines.push(`${shown(path)} is missing; the reference has ${described(other)}`)
    else if (!other) lines.push(`${shown(path)} is not in the reference: ${described(one)}`)
    else if (described(one) !== described(other) || !one.content.equals(other.content)) {
      lines.push(`${shown(path)} is ${described(one)}; in the reference ${described(other)}`)
    }
  }
  return lines
}

function isCompared(path: Bytes, { probes, timed }: Rules): boolean {
  if (!TIMED.test(path)) return true
  if (!timed) return false
  if (!path.startsWith(PROBES)) return true
  const probed = Buffer.from(path.slice(PROBES.length), 'hex').toString('latin1')
  return probes.has(probed)
}

function described(entry: ImageEntry | undefined): string {
  if (!entry) return 'nothing'
  const { type, mode, uid, gid, link, content } = entry
  const what =
    type === 'symlink'
      ? `-> ${shown(link)}`
      : type === 'file'
        ? `${content.length} bytes ${sample(content)}`
        : ''
  return `${type} ${mode.toString(8)} ${uid}:${gid} ${what}`.trim()
}

function sample(content: Buffer): string {
  return shown(content.toString('latin1', 0, 60))
}

function configDifferences(ours: Image, theirs: Image): string[] {
  return Object.keys(theirs.config).flatMap((key) => {
    const [one, other] = [ours, theirs].map(({ config }) => JSON.stringify(withoutNothing(config[key])))
    return one === other ? [] : [`${key} of the config is ${one}; in the reference ${other}`]
  })
}

/** Empty, absent and null mean the same in a config. */
function withoutNothing(value: unknown): unknown {
  const empty =
    value === '' ||
    value === undefined ||
    (typeof value === 'object' && value && Object.keys(value).length === 0)
  return empty ? null : value
}

/**
 * The only allowed difference from a checkout: a file that is unchanged since this BuildKit last received the files of
 * the repository keeps its time, while a fresh checkout gives it a new one. So whether a file is newer than something
 * is compared only if the result must be the same: for files that differ, in content, mode or kind, from every commit
 * since the last completed Conveyor build (BuildKit may have received files of those), and for all files in the first
 * build, after a change of the Dockerfile or the base image, and with empty caches. The OUTPUT of steps is always
 * compared.
 * @param since the commits from that last one to the one before this, oldest first; empty for the first build
 */
export function comparableProbes({ tree, base, pruned }: Commit, since: readonly Commit[]): Set<Bytes> {
  const all = [...tree.keys()]
  const dockerfile = (one: Tree) => keyOf([...one].filter(([path]) => DOCKERFILES.test(path)).sort())
  const isNew = pruned || since.every((one) => one.base !== base || dockerfile(one.tree) !== dockerfile(tree))
  const differs = (path: Bytes) => since.every((one) => !same(one.tree.get(path), tree.get(path)))
  return new Set(isNew ? all : all.filter(differs))
}
