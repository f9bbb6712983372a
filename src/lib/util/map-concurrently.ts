/** Maps items in their order, working on at most `limit` of them at a time. Rejects with the first error. */
export async function mapConcurrently<T, R>(
  items: T[],
  limit: number,
  map: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  const queue = items.entries()
  const lanes = Array.from({ length: limit }, async () => {
    for (const [index, item] of queue) results[index] = await map(item)
  })
  await Promise.all(lanes)
  return results
}
