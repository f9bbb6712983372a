/** Puts a value at the end of a map, and removes the one that was put there first if there are more than `most`. */
export function keepNewest<Key, Value>(kept: Map<Key, Value>, key: Key, value: Value, most: number): void {
  kept.delete(key)
  kept.set(key, value)
  forgetOldest(kept, most)
}

/** Puts a value at the end of a set, and removes the one that was put there first if there are more than `most`. */
export function addNewest<Value>(kept: Set<Value>, value: Value, most: number): void {
  kept.delete(value)
  kept.add(value)
  forgetOldest(kept, most)
}

function forgetOldest<Key>(kept: Map<Key, unknown> | Set<Key>, most: number): void {
  const [oldest] = kept.keys()
  if (kept.size > most && oldest !== undefined) kept.delete(oldest)
}
