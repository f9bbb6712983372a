import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

/** Share of the machine's time that counts as nothing. */
const IDLE = 0.1
const LOOK_MS = 500
const LONGEST_MS = 60_000

/**
 * Waits until the machine is idle, so that no contender pays for deferred work of another, such as Conveyor's cache
 * export. Gives up after a minute, as something else is running.
 */
export async function quiet(): Promise<void> {
  const end = performance.now() + LONGEST_MS
  let before = await ticks()
  while (performance.now() < end) {
    await sleep(LOOK_MS)
    const now = await ticks()
    if ((now.busy - before.busy) / (now.all - before.all) < IDLE) return
    before = now
  }
}

/** proc_stat(5): user, nice, system, idle, iowait, irq and softirq of all cores since the start. */
async function ticks(): Promise<{ busy: number; all: number }> {
  const [line = ''] = (await readFile('/proc/stat', 'utf8')).split('\n')
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, soft = 0] = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map(Number)
  const busy = user + nice + system + irq + soft
  return { busy, all: busy + idle + iowait }
}
