import { posix } from 'node:path'
import { ConveyorError } from '../../core/errors.ts'

/** A Dockerfile's path in normal form. @throws ConveyorError `invalid` if it leads out of the repository */
export function validDockerfile(path: string): string {
  const normal = posix.normalize(path)
  if (path !== '' && !/^\/|^\.\.?(\/|$)|\/$|[\0\n]/.test(normal)) return normal
  throw new ConveyorError('invalid', `Dockerfile path ${JSON.stringify(path)} is outside of the repository`, {
    hint: 'Use a path relative to the root of the repository, such as docker/app.Dockerfile',
  })
}

/** The error of a commit that has no Dockerfile. @param isLink whether there is a symlink at this path, or in it */
export function noDockerfile(path: string, commit: string, isLink: boolean): ConveyorError {
  if (isLink) {
    return new ConveyorError(
      'build_failed',
      `${path} in ${commit} is a symlink that does not point to a file`,
      {
        hint: 'Point it at a Dockerfile inside the repository',
      },
    )
  }
  const [message, hint] =
    path === 'Dockerfile'
      ? [
          `no Dockerfile in the root of ${commit}`,
          'Add a file named Dockerfile to the root of the repository and push it',
        ]
      : [`no ${path} in ${commit}`, 'Check the path: it is relative to the root of the repository']
  return new ConveyorError('build_failed', message, { code: 'no_dockerfile', hint })
}
