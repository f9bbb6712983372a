/** Those who wait until something has arrived. */
export class Watchers {
  readonly #looks = new Set<() => void>()

  /** Something has changed. */
  readonly changed = (): void => {
    for (const look of this.#looks) look()
  }

  /**
   * The first value that `find` finds, now or after a change.
   * @param shown what there is instead, for the error after `timeoutMs`
   */
  waitFor<T>(what: string, find: () => T | undefined, shown: () => string[], timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = find()
        if (found) finish(() => resolve(found))
      }
      const timer = setTimeout(() => {
        const list = shown().join('; ') || 'none'
        finish(() => reject(new Error(`no matching ${what} within ${timeoutMs} ms; received: ${list}`)))
      }, timeoutMs)
      const finish = (settle: () => void) => {
        clearTimeout(timer)
        this.#looks.delete(look)
        settle()
      }
      this.#looks.add(look)
      look()
    })
  }
}
