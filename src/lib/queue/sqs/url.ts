/**
 * The URL of an SQS queue, or undefined when that cannot be meant. Credentials have no place in it.
 * @param flag `sqs://HOST/PATH`, the queue URL with another scheme (https is meant); or a bare `sqs://`
 * @param environmentUrl the whole queue URL, http or https, of a bare flag (SQS_QUEUE_URL)
 */
export function sqsUrl(flag: string, environmentUrl: string | undefined): string | undefined {
  const text = flag === 'sqs://' ? environmentUrl : flag.replace(/^sqs:/, 'https:')
  const url = text ? URL.parse(text) : null
  if (!url || !['http:', 'https:'].includes(url.protocol)) return undefined
  const extra = url.username + url.password + url.search + url.hash
  return extra === '' && /^(\/[\w.-]+)+$/.test(url.pathname) ? url.href : undefined
}

/**
 * The region that the host of a queue URL names, or undefined. Requests to it must be signed for just that
 * region, whatever AWS_REGION says. The SDK does not do this: it only takes the host.
 * https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
 */
export function sqsRegion(url: string): string | undefined {
  const { hostname } = new URL(url)
  const region = '([a-z]{2,4}(?:-[a-z]+)+-\\d+)'
  const modern = new RegExp(`(?:^|\\.)sqs(?:-fips)?\\.${region}\\.`).exec(hostname)
  const legacy = new RegExp(`^${region}\\.queue\\.amazonaws\\.`).exec(hostname)
  return modern?.[1] ?? legacy?.[1]
}

/**
 * The URL of another queue beside the one at `url`: of its dead-letter queue, which is always in the same
 * region. Null when `arn` is none of a queue.
 */
export function sqsUrlOfArn(url: string, arn: string): string | null {
  const [account, name] = /^arn:[^:]+:sqs:[^:]*:(\d+):([\w.-]+)$/.exec(arn)?.slice(1) ?? []
  return account && name ? `${new URL(url).origin}/${account}/${name}` : null
}
