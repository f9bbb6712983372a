import { ConveyorError } from '../core/errors.ts'

/** What an error says about a failed call to AWS. */
export interface AwsCall {
  /** What failed: `queue https://... cannot be read`. */
  failed: string
  /** The resource: `queue`, `bucket NAME`. */
  thing: string
  /** The IAM permissions that Conveyor needs on it: `sqs:ReceiveMessage, ...`. */
  permissions: string
}

const NOT_THERE = ['QueueDoesNotExist', 'AWS.SimpleQueueService.NonExistentQueue', 'NoSuchBucket']
const DENIED = ['AccessDenied', 'AccessDeniedException', 'AllAccessDisabled', 'Forbidden', 'KmsAccessDenied']
const CREDENTIALS = [
  'CredentialsProviderError',
  'ExpiredToken',
  'ExpiredTokenException',
  'InvalidAccessKeyId',
  'InvalidClientTokenId',
  'InvalidSecurity',
  'InvalidToken',
  'MissingAuthenticationToken',
  'SignatureDoesNotMatch',
  'TokenProviderError',
  'UnrecognizedClientException',
]
const CLOCK = ['RequestTimeTooSkewed', 'RequestExpired', 'RequestInTheFuture']
const ELSEWHERE = ['PermanentRedirect', 'AuthorizationHeaderMalformed', 'IllegalLocationConstraintException']

/**
 * Explains what the AWS SDK threw after its own retries. Error names:
 * https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html,
 * https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
 */
export function awsError(thrown: unknown, { failed, thing, permissions }: AwsCall): ConveyorError {
  if (thrown instanceof ConveyorError) return thrown
  const { name, message, status } = partsOf(thrown)
  const text = `${failed}: ${message}`
  const cause = { cause: thrown }
  if (NOT_THERE.includes(name)) {
    return new ConveyorError('not_found', text, {
      hint: `Create the ${thing}, or correct its name and region`,
      ...cause,
    })
  }
  if (CLOCK.includes(name) || /signature (expired|not yet current)/i.test(message)) {
    return new ConveyorError('unavailable', text, {
      hint: "Correct this machine's clock: AWS rejects requests from clocks that are minutes off",
      ...cause,
    })
  }
  if (CREDENTIALS.includes(name)) {
    return new ConveyorError('unauthorized', text, {
      hint: 'Provide AWS credentials: a role for the machine or task, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
      ...cause,
    })
  }
  if (/^region is missing/i.test(message)) {
    return new ConveyorError('invalid', text, { hint: `Set AWS_REGION to the ${thing}'s region`, ...cause })
  }
  if (ELSEWHERE.includes(name) || status === 301) {
    return new ConveyorError('invalid', text, {
      hint: `The ${thing} is in another region: set AWS_REGION to that region`,
      ...cause,
    })
  }
  if (DENIED.includes(name) || status === 403) {
    return new ConveyorError('unauthorized', text, {
      hint: `Allow these credentials ${permissions} on the ${thing}`,
      ...cause,
    })
  }
  return new ConveyorError('unavailable', text, {
    hint: `Check the address of the ${thing}, and that this machine can reach it`,
    ...cause,
  })
}

function partsOf(thrown: unknown): { name: string; message: string; status: number | undefined } {
  if (!(thrown instanceof Error)) return { name: '', message: String(thrown), status: undefined }
  const metadata = (thrown as { $metadata?: { httpStatusCode?: number } }).$metadata
  const status = metadata?.httpStatusCode
  const { code = thrown.name } = thrown as NodeJS.ErrnoException
  // HEAD responses have no body and so no message; nor do errors of hosts that refuse on every address.
  const known = thrown.message !== '' && thrown.message !== 'UnknownError'
  const message = known ? thrown.message : `${code}${status ? ` (HTTP status ${status})` : ''}`
  return { name: thrown.name, message, status }
}
