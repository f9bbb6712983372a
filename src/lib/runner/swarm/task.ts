import { setTimeout as delay } from 'node:timers/promises'
import { ConveyorError } from '../../core/errors.ts'
import { linesTo } from '../../core/one-line.ts'
import { buildLabel } from '../labels.ts'
import type { RunInput, RunIo } from '../runner.ts'
import type { SwarmApi, SwarmNode, Task } from './api.ts'
import {
  exited,
  exitStatus,
  lacksImage,
  noImageAnywhere,
  nowhere,
  rejected,
  removedMeanwhile,
  swarmError,
} from './errors.ts'
import { TaskLog } from './log.ts'
import { hasEnded, isLost, stopTask } from './service.ts'

/** How an attempt ended, errors aside. */
export type Outcome =
  | { kind: 'succeeded' }
  /** The node was lost, or stopped the build. */
  | { kind: 'lost'; why: string }
  | { kind: 'no-image'; nodeId: string; node: string }

/** Pause between two polls of a task: short at first, for builds that finish in seconds. */
const POLL_MS = { first: 200, later: 1000, laterAfter: 5000 }
/** How long a manager may fail to respond, for example while the Swarm elects a new leader. */
const UNANSWERED_MS = 60_000
/** After this long without a node, the log says what the build is waiting for. */
const WAITING_MS = 5000

interface Attempt {
  serviceId: string
  build: RunInput
  image: string
  pendingMs: number
  /** Names of nodes that lack the image, and that the service avoids. */
  without: string[]
}

/** Follows the single task of a build's service until it ends. */
export class TaskRun {
  readonly #api: SwarmApi
  readonly #attempt: Attempt
  readonly #started = performance.now()
  #task: Task | null = null
  /** Its state when it was assigned the task. */
  #node: SwarmNode | null = null
  #lastReason = ''

  constructor(api: SwarmApi, attempt: Attempt) {
    this.#api = api
    this.#attempt = attempt
  }

  /**
   * Copies the log until the task has ended. Aborting the signal stops its container; its last output still reaches
   * the log.
   * @throws ConveyorError as Runner.run does
   */
  async toEnd(io: RunIo): Promise<Outcome> {
    const { signal } = io
    // Also aborted when the log can no longer be written.
    const broken = new AbortController()
    const either = AbortSignal.any([signal, broken.signal])
    let log: TaskLog | null = null
    let following: Promise<void> | undefined
    const followed = new AbortController()
    const begin = (task: Task) => {
      log = new TaskLog(this.#api, task.ID, io.log)
      following = log.follow(followed.signal)
      following.catch((error) => broken.abort(error))
    }
    let outcome: Outcome | null = null
    let failure: unknown
    try {
      outcome = await this.#watch(io, either, begin)
    } catch (error) {
      failure = error
      // Whatever the cause: nothing keeps running unwatched.
      if (this.#task) await this.#stop(this.#task)
    }
    followed.abort()
    await following
    if (log !== null && outcome?.kind !== 'lost') await this.#readRest(log, io)
    if (outcome !== null) return outcome
    signal.throwIfAborted()
    throw failure
  }

  /** @param begin called as soon as a node is assigned the task, before it starts */
  async #watch(io: RunIo, signal: AbortSignal, begin: (task: Task) => void): Promise<Outcome> {
    let answered = performance.now()
    for (;;) {
      signal.throwIfAborted()
      try {
        const outcome = await this.#poll(io, begin)
        if (outcome !== null) return outcome
        answered = performance.now()
      } catch (error) {
        if (error instanceof ConveyorError || performance.now() - answered > UNANSWERED_MS) {
          throw swarmError(error, "cannot get the build's state from the Swarm")
        }
      }
      const early = performance.now() - this.#started < POLL_MS.laterAfter
      await delay(early ? POLL_MS.first : POLL_MS.later, undefined, { signal }).catch(() => {})
    }
  }

  /** Polls the task once; null while it is running. */
  async #poll(io: RunIo, begin: (task: Task) => void): Promise<Outcome | null> {
    const { serviceId, build, image } = this.#attempt
    const tasks = (await this.#api.tasks(buildLabel(build.buildId))).filter(
      (one) => one.ServiceID === serviceId,
    )
    // After a change of leaders, the Swarm may replace a task that has ended; the replacement is ignored.
    const task = tasks.sort((a, b) => a.CreatedAt.localeCompare(b.CreatedAt))[0]
    const known = this.#task
    if (!task || (known && task.ID !== known.ID)) {
      const there = (await this.#api.service(serviceId)) !== null
      if (!there) throw removedMeanwhile()
      if (known) return { kind: 'lost', why: `${this.#nodeName} was removed from the Swarm` }
      return null
    }
    if (task.DesiredState === 'remove') throw removedMeanwhile()
    this.#task = task
    if (!task.NodeID) return this.#pending(task, io)

    const node = await this.#api.node(task.NodeID)
    if (this.#node === null) {
      this.#node = node
      begin(task)
    }
    const { State, Err } = task.Status
    const lost = (why: string): Outcome => ({ kind: 'lost', why: `${this.#nodeName} ${why}` })
    // Whatever ended it, the caller checks what was pushed.
    if (State === 'complete') return { kind: 'succeeded' }
    if (State === 'rejected') {
      if (!lacksImage(task)) throw rejected(task, this.#nodeName, image)
      return { kind: 'no-image', nodeId: task.NodeID, node: this.#node?.Description.Hostname ?? task.NodeID }
    }
    if (State === 'failed') {
      const status = exitStatus(task)
      if (this.#hasChanged(node)) return lost('was unavailable during the build')
      if (status === null) throw rejected(task, this.#nodeName, image)
      throw exited(status, image)
    }
    if (isLost(node)) return lost(`is down (${node?.Status.Message || 'removed'})`)
    if (hasEnded(task)) return lost(`stopped the build${Err ? `: ${Err}` : ''}`)
    return null
  }

  /** No node has been assigned the task yet. */
  async #pending(task: Task, { log }: RunIo): Promise<null> {
    const { image, pendingMs, without } = this.#attempt
    const waited = performance.now() - this.#started
    const why = task.Status.Err ?? ''
    if (why !== '' && without.length > 0) throw noImageAnywhere(image, without)
    if (waited > WAITING_MS && why !== '' && why !== this.#lastReason) {
      this.#lastReason = why
      await linesTo(log)(`waiting for a node: ${why}`)
    }
    if (waited > pendingMs) throw nowhere(why || task.Status.Message || task.Status.State, pendingMs / 1000)
    return null
  }

  /**
   * Whether the node may have been down since it was assigned the task: an engine that shuts down stops its
   * containers, and reports that once it is back. Changes for other reasons cost a failed build a second attempt.
   */
  #hasChanged(node: SwarmNode | null): boolean {
    return isLost(node) || node?.Version.Index !== this.#node?.Version.Index
  }

  get #nodeName(): string {
    const name = this.#node?.Description.Hostname
    return name ? `node ${name}` : 'the node'
  }

  async #stop(task: Task): Promise<void> {
    // Removing the service kills it in any case.
    this.#task = await stopTask(this.#api, this.#attempt.serviceId, task).catch(() => task)
  }

  async #readRest(log: TaskLog, io: RunIo): Promise<void> {
    // Without a container there is no log, and the request would hang.
    if (!this.#task?.Status.ContainerStatus?.ContainerID) return
    const node = this.#task?.NodeID ? await this.#api.node(this.#task.NodeID).catch(() => null) : null
    const missing = isLost(node) ? `${this.#nodeName} is lost` : await log.rest()
    if (missing !== null) await linesTo(io.log)(`warning: cannot read the end of the log: ${missing}`)
  }
}
