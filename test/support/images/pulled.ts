import type Docker from 'dockerode'

/** Fetches an image from its registry, because the engine pushed it without keeping it. */
export async function pulled(docker: Docker, image: string): Promise<void> {
  try {
    await docker.getImage(image).inspect()
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode !== 404) throw error
    const progress = await docker.pull(image)
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    docker.modem.followProgress(progress, (failed) => (failed ? reject(failed) : resolve()))
    await promise
  }
}
