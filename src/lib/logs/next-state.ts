/** What a reader follows of a log. */
export interface FollowedState {
  size: number
  ended: boolean
}

/** Receives the states of a log as they become known, and errors. */
export type Listener<State> = (news: State | Error) => void

export function isSame(a: FollowedState, b: FollowedState): boolean {
  return a.size === b.size && a.ended === b.ended
}

/**
 * Waits until the state of a log differs from `known`; resolves to `known` once one of `stops` is aborted.
 * @param readers registers a listener: `join` may call it at once; `leave` is called once the wait is over
 * @throws the error that the listener is called with
 */
export function nextState<State extends FollowedState>(
  known: State,
  stops: AbortSignal[],
  readers: { join(listener: Listener<State>): void; leave(listener: Listener<State>): void },
): Promise<State> {
  return new Promise((resolve, reject) => {
    const leave = () => {
      readers.leave(hear)
      for (const signal of stops) signal.removeEventListener('abort', stop)
    }
    const hear = (news: State | Error) => {
      if ('size' in news && isSame(news, known)) return
      leave()
      if ('size' in news) resolve(news)
      else reject(news)
    }
    const stop = () => {
      leave()
      resolve(known)
    }
    if (stops.some((signal) => signal.aborted)) return resolve(known)
    for (const signal of stops) signal.addEventListener('abort', stop)
    readers.join(hear)
  })
}
