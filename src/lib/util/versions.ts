/** Whether a program's version is `oldest` or newer, by the first number with a dot in its version output. */
export function isAtLeast(oldest: `${number}.${number}`, versionText: string): boolean {
  const [major, minor] = numbers(versionText)
  const [leastMajor, leastMinor] = numbers(oldest)
  return major > leastMajor || (major === leastMajor && minor >= leastMinor)
}

function numbers(text: string): [number, number] {
  const [, major, minor] = /(\d+)\.(\d+)/.exec(text) ?? []
  return [Number(major ?? 0), Number(minor ?? 0)]
}
