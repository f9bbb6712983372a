import type { StepViewJson } from '../../api/log.ts'
import { type LogStep, stepKey } from '../../core/build-log/plain-log.ts'
import { shortened } from '../../core/timeline.ts'
import { durationText } from '../pages/bits.ts'
import { html } from '../pages/html.ts'

const STATES: Record<LogStep['state'], string> = {
  running: 'running',
  done: 'done',
  cached: 'cached',
  failed: 'failed',
  cancelled: 'cancelled',
}

/** A step that was still running when its build ended was cancelled; the log does not say so. */
export function shownState({ state }: LogStep, hasBuildEnded: boolean): LogStep['state'] {
  return hasBuildEnded && state === 'running' ? 'cancelled' : state
}

export function stepView(step: LogStep, hasBuildEnded: boolean): StepViewJson {
  const { seconds } = step
  const state = shownState(step, hasBuildEnded)
  const took = seconds === null ? '' : durationText(seconds * 1000)
  const [, stage = '', name = step.name] = /^(\[[^\]]{1,60}\]) (.*)$/s.exec(step.name) ?? []
  return {
    key: stepKey(step),
    state,
    first: step.first,
    last: step.last,
    html: html`<span class="i ${state}" role="img" aria-label="${STATES[state]}"></span><span class="nm"><b>${stage}</b> ${textOnly(name)}</span>${
      state === 'cached' && html`<span class="tag">cached</span>`
    }<span class="tm">${took}</span>`.toString(),
  }
}

/** In characters. */
const LONGEST_NAME = 300

/** A name may have escape sequences as well. */
function textOnly(name: string): string {
  return shortened(name.replace(CONTROLS, ''), LONGEST_NAME)
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are removed
const CONTROLS = /\x1b\[[0-?]*[ -/]*[@-~]?|[\x00-\x1f\x7f-\x9f]/g
