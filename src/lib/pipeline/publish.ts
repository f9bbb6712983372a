import { type Build, shaTag, shortName } from '../core/build.ts'
import { ConveyorError } from '../core/errors.ts'
import { linesTo } from '../core/one-line.ts'
import { isMergeQueue } from '../core/validate.ts'
import type { BuildResult } from '../store/build-store.ts'
import type { LocalImage, RegistryImage } from './image.ts'
import type { BuildParts, StepIo } from './parts.ts'
import { verifiedRefs } from './tags/containing-ref.ts'
import { moveTags } from './tags/move.ts'
import { restoreTags } from './tags/restore.ts'
import { tieBreaker } from './tags/tie-breaker.ts'
import { tagNotes, wantedTags } from './tags/wanted.ts'

export type PublishParts = Pick<BuildParts, 'store' | 'registry' | 'names' | 'latest' | 'history'>

/**
 * Points the tags of a build at its image, and stores the success: in this order, so that a build that is stored as
 * succeeded has its tags. A worker that dies in between leaves the build to be tried again.
 * @returns the image, `repo@sha256:...`
 * @throws ConveyorError of the registry, the store or the git server; `cancelled` if another worker has taken over
 * the build, or somebody cancelled it before its tags were moved
 */
export async function publishAndStore(
  build: Build,
  imageName: string,
  image: RegistryImage | LocalImage,
  parts: PublishParts,
  step: StepIo,
): Promise<string> {
  const { id, attempt } = build
  for (;;) {
    // Throws rather than waits: a cancel that was requested before this moment wins, one that comes later is refused.
    const current = await parts.store.beginPublish(id, attempt)
    if (typeof current === 'string') throw notOurs(build, current)
    const success = await publish(current, imageName, image, parts, step)
    const outcome = await parts.store.finish(id, attempt, current.refs.length, success)
    if (outcome === 'finished') {
      step.observer?.published(image.origin)
      return success.image
    }
    if (outcome !== 'refs_added') throw notOurs(build, outcome)
    // `refs_added`: another ref joined the build while its tags were moved. Publish that one, too.
  }
}

/** Goes on with a build whose earlier image could not be published for the reason `why`: it has to be built. */
export async function buildAfterAll(
  { id, attempt }: Build,
  why: ConveyorError,
  { store }: PublishParts,
  { log }: StepIo,
): Promise<void> {
  await store.cancelPublish(id, attempt)
  await linesTo(log)(`building after all: ${why.message}`)
}

export function takenOver(build: Build): ConveyorError {
  return new ConveyorError('cancelled', `another worker has taken over ${shortName(build)}`)
}

function notOurs(build: Build, why: 'superseded' | 'cancel_requested'): ConveyorError {
  if (why === 'superseded') return takenOver(build)
  return new ConveyorError('cancelled', `building ${shortName(build)} was cancelled`)
}

type Success = Extract<BuildResult, { state: 'succeeded' }>

/** Publishes an image for the refs that its build has now. @returns the result to store */
async function publish(
  build: Build,
  imageName: string,
  image: RegistryImage | LocalImage,
  parts: PublishParts,
  step: StepIo,
): Promise<Success> {
  const say = linesTo(step.log)
  if (image.origin === 'dry-run') {
    const local = `${imageName}:${build.sha}`
    await say('', `${step.watch}`, `dry run: built ${local}, nothing was pushed`)
    return { state: 'succeeded', image: local, tags: [] }
  }
  const { origin, digest, ...from } = image
  const reference = `${imageName}@${digest}`
  const { moved, unmoved } = await publishTags(build, imageName, image, parts, step)
  if (origin === 'builder-image') await restoreTags(build, imageName, unmoved, parts, step)
  const tags = [...new Set([shaTag(build), ...moved])]
  // Flushed before the success is stored, so that the log of a succeeded build has these lines even after a crash.
  await say('', `${step.watch}`, `tags ${tags.join(', ')}`, `image ${reference}`)
  await step.log.flush()
  return { state: 'succeeded', image: reference, tags: tags.map((tag) => `${imageName}:${tag}`), ...from }
}

/**
 * Moves the tags that a build may move, and logs why others stay.
 * @returns the tags that point at the image now, and those of the build's refs that do not
 */
async function publishTags(
  build: Build,
  imageName: string,
  { origin, digest }: RegistryImage,
  parts: PublishParts,
  { log, signal, watch }: StepIo,
): Promise<{ moved: string[]; unmoved: string[] }> {
  const { history, latest, names } = parts
  const say = linesTo(log)
  const { refs, withheld } = await verifiedRefs(build, history, signal)
  const all = wantedTags(build, latest, names)
  const wanted = withheld.length > 0 ? wantedTags({ ...build, refs }, latest, names) : all
  // A new image was pushed under its sha; a reused one does not have this tag yet.
  const own = { tag: shaTag(build), sequence: build.sequence }
  const moves = origin === 'reused' ? [own, ...wanted] : wanted
  const settle = tieBreaker(build.repository, { history, say }, signal)
  const moved = await watch.measure('tag', moveTags(parts, imageName, digest, moves, settle, signal))

  for (const line of tagNotes(wanted, moved)) await say(line)
  for (const { ref, reason } of withheld) await say(`tag ${names.tag(ref)} is not moved: ${reason}`)
  for (const { tag, reason } of build.withheld ?? []) {
    if (!moved.includes(tag)) await say(`tag ${tag} is not moved: ${reason}`)
  }
  for (const { name } of build.refs.filter(isMergeQueue)) {
    await say(`branch ${name} belongs to a merge queue: only the sha tag is set`)
  }
  const unmoved = [...new Set(all.map(({ tag }) => tag))].filter((tag) => !moved.includes(tag))
  return { moved, unmoved }
}
