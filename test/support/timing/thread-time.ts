/** @returns how long this thread has computed since then, in milliseconds, whatever else runs on the machine */
export function threadTime(): () => number {
  const start = process.threadCpuUsage()
  return () => {
    const { user, system } = process.threadCpuUsage(start)
    return (user + system) / 1000
  }
}
