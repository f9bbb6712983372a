import type { BuildParts, SecretRedactor } from './parts.ts'

/**
 * The parts, with the secrets that they hand out masked in the build's log from then on. Only secrets that the build
 * may read anyway: it could print guesses of any others, and see in its log which one is masked.
 */
export function redactedParts(parts: BuildParts, redactor: SecretRedactor): BuildParts {
  const secrets = async (repository: string) => {
    const found = await parts.secrets(repository)
    for (const secret of Object.values(found)) redactor.add(secret)
    return found
  }
  const proxies = async () => {
    const found = await parts.proxies()
    for (const secret of found.secrets) redactor.add(secret)
    return found
  }
  return { ...parts, secrets, proxies }
}
