/** Whether a program is not older than `oldest`, by the first number with a dot in what it says of itself. */
export function isAtLeast(oldest: `${number}.${number}`, said: string): boolean {
  const [major, minor] = numbers(said)
  const [leastMajor, leastMinor] = numbers(oldest)
  return major > leastMajor || (major === leastMajor && minor >= leastMinor)
}

function numbers(text: string): [number, number] {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(text) ?? []
  return [Number(major ?? 0), Number(minor ?? 0)]
}
