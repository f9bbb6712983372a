import { ConveyorError } from '../../core/errors.ts'
import { GitFailure } from './git.ts'
import type { Remote } from './remote.ts'

/** In the midst of a fetch: git found our own copy damaged, not the server or the request at fault. */
const DAMAGED = [
  /not a git repository:? |bad config|bad numeric config|invalid gitfile/i,
  /bad object|is corrupt|object file .* is empty|not a tree object|broken (ref|link)|reference broken/i,
  /(packfile|index file|GIT packfile|pack) .*(is corrupt|too small|cannot be accessed|does not match|is invalid)/i,
  /not a GIT packfile|inflate: |bad signature|unable to (read (tree|sha1|object)|unpack)|bad shallow/i,
  /missing (blob|tree|commit)|did not send all necessary objects|shallow file has changed/i,
]

/** The machine is at its limits; that says nothing about the mirror. */
const EXHAUSTED =
  /No space left|Disk quota exceeded|out of memory|Cannot allocate|Too many open files|Resource temporarily/i

/** Whether a failed fetch speaks of damage in the mirror, so that making it anew can help. */
export function isDamage(thrown: unknown): thrown is GitFailure {
  if (!(thrown instanceof GitFailure)) return false
  const ours = thrown.stderr.split('\n').filter((line) => !line.startsWith('remote: '))
  return DAMAGED.some((pattern) => ours.some((line) => pattern.test(line)))
}

/**
 * The same for a command that only reads the mirror. There nothing else can be at fault, if git had time
 * to say something at all.
 */
export function isReadDamage(thrown: unknown): thrown is GitFailure {
  return thrown instanceof GitFailure && thrown.stderr !== '' && !EXHAUSTED.test(thrown.stderr)
}

interface Rule {
  pattern: RegExp
  /** Only for what happened where a redirect led to. */
  redirected?: boolean
  error(what: What): ConveyorError
}

interface What {
  repository: string
  /** Short commit id. */
  short: string
  host: string
  /** Empty for the usual one. */
  port: string
  authenticated: boolean
  /** git's own words, one line. */
  said: string
  cause: unknown
}

const REFUSED = /Authentication failed|could not read (Username|Password)|error: (401|403)/i

/** First match wins. */
const RULES: Rule[] = [
  {
    pattern: /No space left on device|Disk quota exceeded/i,
    error: ({ repository, short, cause }) =>
      new ConveyorError('unavailable', `no disk space left to fetch ${repository}@${short}`, {
        hint: 'Free space in the data directory of this worker',
        cause,
      }),
  },
  {
    pattern: /not our ref|no such remote ref|couldn't find remote ref|unadvertised object/i,
    error: ({ repository, short, host, cause }) =>
      new ConveyorError('not_found', `${host} has no commit ${short} in ${repository}`, {
        hint: 'Check the sha and that it was pushed; a force push may have removed it',
        cause,
      }),
  },
  {
    pattern: /HOST IDENTIFICATION HAS CHANGED/,
    error: ({ repository, host, cause }) =>
      new ConveyorError(
        'unauthorized',
        `the ssh host key of ${host} is not the one known for ${repository}: somebody else may be answering`,
        {
          hint: `If the change is right, put the new key into the file of --git.known-hosts (GIT_KNOWN_HOSTS), or where it was known`,
          cause,
        },
      ),
  },
  {
    pattern: /Host key verification failed/i,
    error: ({ repository, host, port, cause }) =>
      new ConveyorError('unauthorized', `the ssh host key of ${host} is not known, for ${repository}`, {
        hint: `Give a file that has it, --git.known-hosts (GIT_KNOWN_HOSTS): ssh-keyscan ${port === '' ? '' : `-p ${port} `}${host} shows it, and the people of ${host} whether it is right. accept-new takes the first one that is seen`,
        cause,
      }),
  },
  {
    pattern: /No user exists for uid/,
    error: ({ cause }) =>
      new ConveyorError('unavailable', 'ssh does not run as a user that /etc/passwd does not know', {
        hint: 'Fetch over https (--git.url), or run Conveyor as a user who is there',
        retryable: false,
        cause,
      }),
  },
  {
    pattern: /Permission denied \(|no supported authentication methods/i,
    error: ({ repository, host, cause }) =>
      new ConveyorError('unauthorized', `${host} refused our ssh key for ${repository}`, {
        hint: 'Add the public key to the repository as a deploy key, or to a user who may read it',
        cause,
      }),
  },
  {
    pattern: /repository .*not found|not found: did you run|does not (appear to be|exist)|error: 404/i,
    error: ({ repository, host, authenticated, cause }) =>
      new ConveyorError('not_found', `${host} has no repository ${repository}`, {
        hint: `Check the name${
          authenticated
            ? ' and that the credentials may read it'
            : ', and set GITHUB_TOKEN if it is a private one'
        }: GitHub hides private repositories from those who may not read them`,
        cause,
      }),
  },
  {
    // Credentials are for one origin: whatever a redirect leads to has to do without.
    pattern: REFUSED,
    redirected: true,
    error: ({ repository, host, cause }) =>
      new ConveyorError(
        'unauthorized',
        `${host} redirects to another server for ${repository}, which asks for a login and is not given that of ${host}`,
        { hint: 'If that server is to be trusted with it, give its address as --git.url (GIT_URL)', cause },
      ),
  },
  {
    pattern: REFUSED,
    error: ({ repository, host, authenticated, cause }) =>
      authenticated
        ? new ConveyorError('unauthorized', `${host} refused our credentials for ${repository}`, {
            hint: 'Set GITHUB_TOKEN to a valid token that may read the repository',
            cause,
          })
        : new ConveyorError('unauthorized', `${host} wants credentials for ${repository}`, {
            hint: 'Set GITHUB_TOKEN for a private repository; GitHub asks for it too when there is no such repository',
            cause,
          }),
  },
  {
    // OpenSSL and GnuTLS: https://github.com/curl/curl/blob/curl-7_88_1/lib/vtls/
    pattern: /SSL certificate problem|server certificate verification failed/i,
    error: ({ repository, host, said, cause }) =>
      new ConveyorError('unavailable', `could not fetch ${repository} from ${host}: ${said}`, {
        hint: 'Point GIT_SSL_CAINFO at the certificate of its authority, or at its own if it is self-signed',
        retryable: false,
        cause,
      }),
  },
  {
    pattern: /Could not resolve host|Could not resolve hostname|Temporary failure in name resolution/i,
    error: ({ repository, host, cause }) =>
      new ConveyorError('unavailable', `no address found for ${host} while fetching ${repository}`, {
        hint: 'Check the name in the git URL and the name server of this machine',
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
        hint: 'Check that the git server answers',
        cause,
      }),
  },
]

/** What a failed `git fetch` means for the person who asked for the build. */
export function fetchError(
  thrown: unknown,
  { repository, sha, remote }: { repository: string; sha: string; remote: Remote },
): unknown {
  if (!(thrown instanceof GitFailure)) return thrown
  const rule = RULES.find(
    ({ pattern, redirected }) =>
      pattern.test(thrown.stderr || thrown.message) && (!redirected || thrown.redirected),
  )
  const what = { repository, short: sha.slice(0, 7), cause: thrown, said: said(thrown) }
  const port = URL.parse(remote.url(repository))?.port ?? ''
  return rule?.error({ ...what, host: remote.host, port, authenticated: remote.authenticated })
}

/** The line of git's that says most: its first `fatal:`, else `error:`, else the last line. */
export function said(failure: GitFailure): string {
  const lines = failure.stderr.split('\n').filter((line) => line.trim() !== '')
  const best =
    lines.find((line) => /^(fatal|remote: fatal): /.test(line)) ??
    lines.find((line) => line.startsWith('error: ')) ??
    lines.at(-1)
  return (best ?? failure.message).replace(/^(fatal|error): /, '')
}

/** What to throw when reading the mirror failed. A damaged one is made anew, so trying again helps. */
export function readError(failure: GitFailure, repository: string): ConveyorError {
  const hint = isReadDamage(failure)
    ? 'Try again: the mirror will be made anew'
    : 'Check the memory and the disk of this worker'
  const message = isReadDamage(failure)
    ? `the local mirror of ${repository} is damaged: ${said(failure)}`
    : `git could not read the local mirror of ${repository}: ${said(failure)}`
  return new ConveyorError('unavailable', message, { hint, cause: failure })
}
