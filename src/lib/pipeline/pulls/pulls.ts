import { type Build, type BuildRequest, isEnded, type PushFacts } from '../../core/build.ts'
import { toConveyorError } from '../../core/errors.ts'
import { isFromFork, type PullRequest } from '../../core/pull-request.ts'
import type { Forge } from '../../forge/forge.ts'
import type { Accepted, BuildStore } from '../../store/build-store.ts'
import { type RequestParts, requestBuild } from '../accept.ts'
import type { BuildPolicy } from '../policy/build-policy.ts'

interface PullParts extends RequestParts {
  forge: Pick<Forge, 'message'>
  policy?: BuildPolicy
}

/** For the message of a commit, in milliseconds: GitHub waits for the answer to its webhook for 10 s. */
const MESSAGE_MS = 4000

/** Records a pull request as it is now. @returns why nothing follows from it; null if something does */
export async function notePull(pull: PullRequest, store: BuildStore): Promise<string | null> {
  if (await store.pulls.put(pull)) return null
  return `a later state of pull request #${pull.number} is known already`
}

/**
 * Tags the image of a pull request's head, `pr-7`: by the build of that commit, if it is still running, otherwise by one
 * that reuses its image. A head that nobody has built is built; one whose build has failed is not built again.
 * @returns the build, or why there is none
 */
export async function buildPull(
  pull: PullRequest,
  { push, defaultBranch, delivery }: { push: PushFacts; defaultBranch: string; delivery: string },
  parts: PullParts,
): Promise<Accepted | { ignored: string }> {
  const { repository, number, head } = pull
  const { store } = parts
  if (isFromFork(pull)) {
    const from = head.repository ?? 'a fork that is gone'
    const command = `"/build ${head.sha.slice(0, 7)}"`
    return {
      ignored: `pull request #${number} is from ${from}: it is built when somebody with write access comments ${command}`,
    }
  }
  const known = await store.newest(repository, head.sha)
  if (known && isEnded(known.state) && known.state !== 'succeeded') {
    const ended = `the build of ${head.sha.slice(0, 7)} ${known.state === 'failed' ? 'failed' : 'was cancelled'}`
    return { ignored: `${ended}: when it is retried, its image gets the tag of pull request #${number}` }
  }
  const ref = pullRef(number)
  const message = known ? null : await messageOf(repository, head.sha, parts)
  const excluded = message !== null && parts.policy?.whyNot({ repository, ref, message })
  if (excluded) return { ignored: excluded }
  const request: BuildRequest = {
    ...{ repository, sha: head.sha, ref, defaultBranch, push, cache: true },
    ...(known?.tree && { tree: known.tree }),
    ...(known?.commit && { commit: known.commit }),
    source: { kind: 'webhook', delivery },
  }
  return requestBuild(request, parts)
}

/**
 * Has the build of a branch's head tag its pull requests, too: their webhook may have come before that of the push, when
 * the only build of the commit was one that had failed, or was cancelled.
 */
export async function joinPulls(build: Build, branch: string, parts: RequestParts): Promise<void> {
  if (isEnded(build.state)) return
  const { store } = parts
  const { repository, sha, defaultBranch, tree, commit } = build
  for (const { number, head } of await pullsAt(build, store)) {
    const ref = pullRef(number)
    const isKnown = build.refs.some(({ kind, name }) => kind === 'pull' && name === ref.name)
    if (isKnown || head.branch !== branch) continue
    const request: BuildRequest = {
      ...{ repository, sha, ref, defaultBranch, cache: true },
      ...(tree !== null && { tree }),
      ...(commit && { commit }),
      // The head may have been here before, and elsewhere since.
      sequence: await store.reserveSequence(),
      source: { kind: 'server' },
    }
    await requestBuild(request, parts)
  }
}

/** The open pull requests, but those of forks, whose head a commit is. */
export async function pullsAt(
  { repository, sha }: Pick<Build, 'repository' | 'sha'>,
  store: Pick<BuildStore, 'pulls'>,
): Promise<PullRequest[]> {
  return (await store.pulls.withHead(repository, sha)).filter((pull) => !isFromFork(pull))
}

/** A pull request as the ref of a build. */
export function pullRef(number: number): { kind: 'pull'; name: string } {
  return { kind: 'pull', name: String(number) }
}

/** Null if the forge does not tell: the commit is built then, whatever its message says. */
async function messageOf(repository: string, sha: string, { forge, log }: PullParts): Promise<string | null> {
  try {
    return await forge.message(repository, sha, AbortSignal.timeout(MESSAGE_MS))
  } catch (error) {
    const { message } = toConveyorError(error, 'reading the message of a commit failed')
    log(`${message}; ${repository}@${sha.slice(0, 7)} is built whatever it says`, { level: 'warn' })
    return null
  }
}
