/**
 * Watches the event loop of this thread by its CPU time, so that other load on the machine makes no difference.
 * @returns `ms`, which stops watching and returns how long the loop was blocked at most, in milliseconds; `total`, how
 * long this thread has computed since the start
 */
export function longestTurn(): { ms(): number; total(): number } {
  const computed = () => {
    const { user, system } = process.threadCpuUsage()
    return (user + system) / 1000
  }
  let longest = 0
  const start = computed()
  let last = start
  const look = () => {
    const now = computed()
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
    total: () => computed() - start,
  }
}
