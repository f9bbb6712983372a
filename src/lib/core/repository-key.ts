/** A repository's name for comparisons, and as a key: GitHub's names are the same in upper and lower case. */
export function repositoryKey(repository: string): string {
  return repository.toLowerCase()
}
