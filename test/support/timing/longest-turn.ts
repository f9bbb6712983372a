import { threadTime } from './thread-time.ts'

/** What `longestTurn` watches. */
interface Turns {
  /** Stops watching; how long the loop was blocked at most, in milliseconds. */
  ms(): number
  /** How long this thread has computed since the start, in milliseconds. */
  total(): number
}

/** Watches the event loop of this thread by its CPU time, so that other load on the machine makes no difference. */
export function longestTurn(): Turns {
  const total = threadTime()
  let longest = 0
  let last = 0
  const look = () => {
    const now = total()
    longest = Math.max(longest, now - last)
    last = now
  }
  const timer = setInterval(look, 1)
  return {
    ms() {
      clearInterval(timer)
      look()
      return longest
    },
    total,
  }
}
