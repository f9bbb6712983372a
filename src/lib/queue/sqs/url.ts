/**
 * The URL of an SQS queue, or undefined if it is invalid. Credentials are not allowed in it.
 * @param flag `sqs://HOST/PATH`, the queue URL with another scheme in place of https; or just `sqs://`
 * @param environmentUrl the whole queue URL, http or https, for just `sqs://` (SQS_QUEUE_URL)
 */
export function sqsUrl(flag: string, environmentUrl: string | undefined): string | undefined {
  const text = flag === 'sqs://' ? environmentUrl : flag.replace(/^sqs:/, 'https:')
  const url = text ? URL.parse(text) : null
  if (!url || !['http:', 'https:'].includes(url.protocol)) return undefined
  const extra = url.username + url.password + url.search + url.hash
  return extra === '' && /^(\/[\w.-]+)+$/.test(url.pathname) ? url.href : undefined
}

/**
 * The region in the host name of a queue URL, or undefined. Requests must be signed for that region, whatever AWS_REGION
 * says. The SDK does not do this: it only uses the host.
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
 * The URL of another queue in the same region as the one at `url`, such as its dead-letter queue. Null if `arn` is not
 * the ARN of a queue.
 */
export function sqsUrlOfArn(url: string, arn: string): string | null {
  const [account, name] = /^arn:[^:]+:sqs:[^:]*:(\d+):([\w.-]+)$/.exec(arn)?.slice(1) ?? []
  return account && name ? `${new URL(url).origin}/${account}/${name}` : null
}
