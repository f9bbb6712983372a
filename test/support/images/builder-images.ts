import type Docker from 'dockerode'
import { BUSYBOX_IMAGE } from './base-images.ts'
import { tar } from './tar.ts'

/** The contents of a test's builder image, in addition to busybox. */
export interface BuilderImage {
  /** Its entrypoint: a script for busybox's sh. */
  script: string
  /** More instructions of its Dockerfile. */
  dockerfile?: string
}

/** Makes a builder image in an engine that has the base images. */
export async function makeBuilderImage(docker: Docker, name: string, image: BuilderImage): Promise<void> {
  const dockerfile = [
    `FROM ${BUSYBOX_IMAGE}`,
    'COPY build.sh /build.sh',
    image.dockerfile ?? '',
    'ENTRYPOINT ["/bin/sh", "/build.sh"]',
  ]
  const context = tar([
    { path: 'Dockerfile', content: dockerfile.join('\n') },
    { path: 'build.sh', content: image.script },
  ])
  await finished(docker, await docker.buildImage(context, { t: name }))
}

/** Waits for the end of the engine's progress in lines of JSON. Rejects if one of them is an error. */
export function finished(docker: Docker, progress: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve, reject) => {
    docker.modem.followProgress(progress, (error: Error | null, lines: { error?: string }[]) => {
      const failure = error?.message ?? lines.find((line) => line.error)?.error
      if (failure) reject(new Error(failure))
      else resolve()
    })
  })
}
