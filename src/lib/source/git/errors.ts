import { ConveyorError } from '../../core/errors.ts'
import { GitFailure } from './git.ts'
import { REFUSED, type Remote } from './remote.ts'

/** Errors of a fetch that mean a corrupt mirror, not a problem with the server or the request. */
const CORRUPT = [
  /not a git repository:? |bad config|bad numeric config|invalid gitfile/i,
  /bad object|is corrupt|object file .* is empty|not a tree object|broken (ref|link)|reference broken/i,
  /(packfile|index file|GIT packfile|pack) .*(is corrupt|too small|cannot be accessed|does not match|is invalid)/i,
  /not a GIT packfile|inflate: |bad signature|unable to (read (tree|sha1|object)|unpack)|bad shallow/i,
  /missing (blob|tree|commit)|did not send all necessary objects|shallow file has changed/i,
]

/** The machine is out of resources; the mirror may be fine. */
const EXHAUSTED =
  /No space left|Disk quota exceeded|out of memory|Cannot allocate|Too many open files|Resource temporarily/i

/** Whether a fetch failed because the mirror is corrupt, so that recreating it can help. */
export function isDamage(thrown: unknown): thrown is GitFailure {
  if (!(thrown instanceof GitFailure)) return false
  const local = thrown.stderr.split('\n').filter((line) => !line.startsWith('remote: '))
  return CORRUPT.some((pattern) => local.some((line) => pattern.test(line)))
}

/** The same for a command that only reads the mirror. Any error output of git means that the mirror is corrupt. */
export function isReadDamage(thrown: unknown): thrown is GitFailure {
  return thrown instanceof GitFailure && thrown.stderr !== '' && !EXHAUSTED.test(thrown.stderr)
}

interface Rule {
  pattern: RegExp
  /** Only for errors after a redirect. */
  redirected?: boolean
  error(context: FetchContext): ConveyorError
}

interface FetchContext {
  repository: string
  /** Short commit id. */
  short: string
  host: string
  /** Empty for the default port. */
  port: string
  authenticated: boolean
  /** Whether the credentials are those of a GitHub App. */
  perRepository: boolean
  /** git's error message, one line. */
  said: string
  cause: unknown
}

/** The first match wins. */
const RULES: Rule[] = [
  {
    pattern: /No space left on device|Disk quota exceeded/i,
    error: ({ repository, short, cause }) =>
      new ConveyorError('unavailable', `no disk space left to fetch ${repository}@${short}`, {
        hint: 'Free up space in the data directory of this worker',
        cause,
      }),
  },
  {
    pattern: /not our ref|no such remote ref|couldn't find remote ref|unadvertised object/i,
    error: ({ repository, short, host, cause }) =>
      new ConveyorError('not_found', `${host} has no commit ${short} in ${repository}`, {
        hint: 'Check the sha, and that it was pushed; a force push may have removed it',
        cause,
      }),
  },
  {
    pattern: /HOST IDENTIFICATION HAS CHANGED/,
    error: ({ repository, host, cause }) =>
      new ConveyorError(
        'unauthorized',
        `the SSH host key of ${host} has changed, while fetching ${repository}; this may be a man-in-the-middle attack`,
        {
          hint: 'If the change is legitimate, replace the key in the file of --git.known-hosts (GIT_KNOWN_HOSTS), or in ~/.ssh/known_hosts',
          cause,
        },
      ),
  },
  {
    pattern: /Host key verification failed/i,
    error: ({ repository, host, port, cause }) =>
      new ConveyorError('unauthorized', `unknown SSH host key of ${host}, while fetching ${repository}`, {
        hint: `Add it to the file of --git.known-hosts (GIT_KNOWN_HOSTS): get it with ssh-keyscan ${port === '' ? '' : `-p ${port} `}${host}, and verify it with the operators of ${host}. Or set accept-new to trust the first key`,
        cause,
      }),
  },
  {
    pattern: /No user exists for uid/,
    error: ({ cause }) =>
      new ConveyorError('unavailable', 'ssh cannot run as a user that is not in /etc/passwd', {
        hint: 'Fetch over HTTPS (--git.url), or run Conveyor as a user in /etc/passwd',
        retryable: false,
        cause,
      }),
  },
  {
    pattern: /Permission denied \(|no supported authentication methods/i,
    error: ({ repository, host, cause }) =>
      new ConveyorError('unauthorized', `${host} refused the SSH key for ${repository}`, {
        hint: 'Add the public key to the repository as a deploy key, or to a user with access to it',
        cause,
      }),
  },
  {
    pattern: /repository .*not found|not found: did you run|does not (appear to be|exist)|error: 404/i,
    error: ({ repository, host, authenticated, perRepository, cause }) =>
      new ConveyorError('not_found', `${host} has no repository ${repository}`, {
        hint: `Check the name${
          perRepository
            ? ', and that the GitHub App is installed on it'
            : authenticated
              ? ', and that the credentials have access to it'
              : ', and set GITHUB_TOKEN if it is private'
        }: GitHub hides private repositories from users without access`,
        cause,
      }),
  },
  {
    // Credentials are for one origin, and never sent to another after a redirect.
    pattern: REFUSED,
    redirected: true,
    error: ({ repository, host, cause }) =>
      new ConveyorError(
        'unauthorized',
        `${host} redirects ${repository} to another server, which requires a login; the credentials for ${host} are not sent there`,
        { hint: 'If you trust that server with them, set --git.url (GIT_URL) to its address', cause },
      ),
  },
  {
    pattern: REFUSED,
    error: ({ repository, host, authenticated, perRepository, cause }) =>
      authenticated
        ? new ConveyorError('unauthorized', `${host} refused the credentials for ${repository}`, {
            hint: perRepository
              ? 'Check that the GitHub App is installed on the repository, with the permission "Contents: read"'
              : 'Set GITHUB_TOKEN to a valid token with access to the repository',
            cause,
          })
        : new ConveyorError('unauthorized', `${host} requires credentials for ${repository}`, {
            hint: 'Set GITHUB_TOKEN for a private repository; GitHub also requires credentials if the repository does not exist',
            cause,
          }),
  },
  {
    // OpenSSL and GnuTLS: https://github.com/curl/curl/blob/curl-7_88_1/lib/vtls/
    pattern: /SSL certificate problem|server certificate verification failed/i,
    error: ({ repository, host, said, cause }) =>
      new ConveyorError('unavailable', `could not fetch ${repository} from ${host}: ${said}`, {
        hint: 'Set GIT_SSL_CAINFO to the file of its CA certificate, or of its own certificate if it is self-signed',
        retryable: false,
        cause,
      }),
  },
  {
    pattern: /Could not resolve host|Could not resolve hostname|Temporary failure in name resolution/i,
    error: ({ repository, host, cause }) =>
      new ConveyorError('unavailable', `cannot resolve ${host} while fetching ${repository}`, {
        hint: 'Check the host name in the git URL, and the DNS settings of this machine',
        cause,
      }),
  },
  {
    pattern: /timed out|Operation too slow|too slow|timeout/i,
    error: ({ repository, short, host, cause }) =>
      new ConveyorError('unavailable', `${host} took too long to send ${repository}@${short}`, { cause }),
  },
  {
    pattern: /./s,
    error: ({ repository, short, host, said, cause }) =>
      new ConveyorError('unavailable', `could not fetch ${repository}@${short} from ${host}: ${said}`, {
        hint: 'Check that the git server is reachable',
        cause,
      }),
  },
]

/** Turns a failed `git fetch` into an error for the person who requested the build. */
export function fetchError(
  thrown: unknown,
  { repository, sha, remote }: { repository: string; sha: string; remote: Remote },
): unknown {
  if (!(thrown instanceof GitFailure)) return thrown
  const rule = RULES.find(
    ({ pattern, redirected }) =>
      pattern.test(thrown.stderr || thrown.message) && (!redirected || thrown.redirected),
  )
  const context = { repository, short: sha.slice(0, 7), cause: thrown, said: gitMessage(thrown) }
  const port = URL.parse(remote.url(repository))?.port ?? ''
  const { host, authenticated, perRepository } = remote
  return rule?.error({ ...context, host, port, authenticated, perRepository })
}

/** The most informative line of git's output: the first `fatal:`, else `error:`, else the last line. */
export function gitMessage(failure: GitFailure): string {
  const lines = failure.stderr.split('\n').filter((line) => line.trim() !== '')
  const best =
    lines.find((line) => /^(fatal|remote: fatal): /.test(line)) ??
    lines.find((line) => line.startsWith('error: ')) ??
    lines.at(-1)
  return (best ?? failure.message).replace(/^(fatal|error): /, '')
}

/** The error for a failed read of the mirror. A corrupt mirror is recreated, so a retry helps. */
export function readError(failure: GitFailure, repository: string): ConveyorError {
  const hint = isReadDamage(failure)
    ? 'Retry: the mirror will be recreated'
    : 'Check the memory and the disk of this worker'
  const message = isReadDamage(failure)
    ? `the local mirror of ${repository} is corrupt: ${gitMessage(failure)}`
    : `cannot read the local mirror of ${repository}: ${gitMessage(failure)}`
  return new ConveyorError('unavailable', message, { hint, cause: failure })
}
