import type { AttemptObserver, BuildObserver } from '../pipeline/observer.ts'

/** Several observers as one. */
export function observers(all: readonly BuildObserver[]): BuildObserver {
  return {
    attempt: (build) => attemptObservers(all.map((one) => one.attempt(build))),
    ended: (...args) => each(all, (one) => one.ended(...args)),
    commitStatus: (...args) => each(all, (one) => one.commitStatus(...args)),
    systemError: (...args) => each(all, (one) => one.systemError(...args)),
  }
}

function attemptObservers(all: readonly AttemptObserver[]): AttemptObserver {
  return {
    phaseBegan: (...args) => each(all, (one) => one.phaseBegan(...args)),
    phaseEnded: (...args) => each(all, (one) => one.phaseEnded(...args)),
    steps: (...args) => each(all, (one) => one.steps(...args)),
    timeline: (...args) => each(all, (one) => one.timeline(...args)),
    published: (...args) => each(all, (one) => one.published(...args)),
    leaseLost: () => each(all, (one) => one.leaseLost()),
    over: (...args) => each(all, (one) => one.over(...args)),
    ended: (...args) => each(all, (one) => one.ended(...args)),
  }
}

function each<T>(all: readonly T[], call: (one: T) => void): void {
  for (const one of all) call(one)
}
