/** BuildKit rejects the Dockerfile too. */
export class InvalidDockerfile extends Error {}

/** BuildKit's result cannot be predicted: versions differ, or a limit is exceeded. */
export class UnpredictableDockerfile extends Error {}
