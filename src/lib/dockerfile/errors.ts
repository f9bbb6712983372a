/** BuildKit refuses such a Dockerfile too. */
export class InvalidDockerfile extends Error {}

/** What BuildKit makes of it is not known here: it goes over a limit, or its versions differ in it. */
export class UnpredictableDockerfile extends Error {}
