import { describe, expect, test } from 'vitest'
import { decodeMessage, encodeMessage, sqsName } from '../../src/lib/queue/sqs/message.ts'
import { sqsRegion, sqsUrl, sqsUrlOfArn } from '../../src/lib/queue/sqs/url.ts'

const SHA = '139759bd61e98faeec619c45b1060b4288952164'

describe('the body of a message', () => {
  test.each(['a', 'ünï "quoted" 🐳', '\u0000\uffff'])(
    'encodes %j in characters that SQS accepts',
    (buildId) => {
      const body = encodeMessage({ buildId, repository: 'acme/app' })
      expect(body).toMatch(/^[\x20-\x7e]+$/)
      expect(decodeMessage(body)).toEqual({ buildId })
    },
  )

  test('may have no branch and no cache setting, as sent by the original Conveyor', () => {
    const request = decodeMessage(
      JSON.stringify({ ID: 'x', Repository: 'acme/app', Sha: SHA, Branch: '', More: 1 }),
    ).request
    expect(request).toMatchObject({ repository: 'acme/app', sha: SHA, ref: null, cache: true })
  })

  const original = { ID: 'x', Repository: 'acme/app', Sha: SHA, Branch: 'main', NoCache: false }
  test.each([
    [undefined, 'it is not JSON'],
    ['{"secret":', 'it is not JSON'],
    ['[]', 'it is not a JSON object'],
    ['null', 'it is not a JSON object'],
    ['{}', 'its ID is missing or not a string'],
    [JSON.stringify({ ...original, NoCache: 'yes' }), 'its NoCache is not a boolean'],
    [JSON.stringify({ ...original, Repository: '../app' }), 'repository'],
    [JSON.stringify({ ...original, Sha: 'main' }), 'main'],
    [JSON.stringify({ ...original, Branch: 'a..b' }), 'a..b'],
  ])('%j cannot be read', (body, why) => {
    expect(() => decodeMessage(body)).toThrow(why)
  })

  test('group names are valid in SQS, and distinct', () => {
    expect(sqsName('acme/app')).toBe('acme/app')
    const long = ['x'.repeat(129), 'x'.repeat(130), 'a b', 'ä', ''].map(sqsName)
    expect(new Set(long).size).toBe(5)
    for (const name of long) expect(name).toMatch(/^[0-9a-f]{64}$/)
  })
})

describe('the URL of a queue', () => {
  test.each([
    [
      'sqs://sqs.eu-west-1.amazonaws.com/1234/builds',
      undefined,
      'https://sqs.eu-west-1.amazonaws.com/1234/builds',
    ],
    [
      'sqs://',
      'http://127.0.0.1:4566/000000000000/builds.fifo',
      'http://127.0.0.1:4566/000000000000/builds.fifo',
    ],
    ['sqs://', undefined, undefined],
    ['sqs://', '', undefined],
    ['sqs://', 'sqs://sqs.eu-west-1.amazonaws.com/1234/builds', undefined],
    ['sqs://', 'ftp://host/1/builds', undefined],
    ['sqs://host', undefined, undefined],
    ['sqs://host/', undefined, undefined],
    ['sqs://host/1//builds', undefined, undefined],
    ['sqs://host/1/builds?x=y', undefined, undefined],
    ['sqs://key:secret@host/1/builds', undefined, undefined],
  ])('%s with SQS_QUEUE_URL %s is %s', (flag, environment, url) => {
    expect(sqsUrl(flag, environment)).toBe(url)
  })

  test.each([
    ['https://sqs.eu-west-1.amazonaws.com/1/builds', 'eu-west-1'],
    ['https://sqs-fips.us-gov-west-1.amazonaws.com/1/builds', 'us-gov-west-1'],
    ['https://sqs.cn-north-1.amazonaws.com.cn/1/builds', 'cn-north-1'],
    ['https://vpce-0a.sqs.us-east-2.vpce.amazonaws.com/1/builds', 'us-east-2'],
    ['https://eu-central-1.queue.amazonaws.com/1/builds', 'eu-central-1'],
    ['https://queue.amazonaws.com/1/builds', undefined],
    ['http://127.0.0.1:4566/1/builds', undefined],
  ])('%s names the region %s', (url, region) => {
    expect(sqsRegion(url)).toBe(region)
  })

  test('of its dead-letter queue', () => {
    const url = 'https://sqs.eu-west-1.amazonaws.com/1234/builds'
    expect(sqsUrlOfArn(url, 'arn:aws:sqs:eu-west-1:1234:builds-dead.fifo')).toBe(
      'https://sqs.eu-west-1.amazonaws.com/1234/builds-dead.fifo',
    )
    expect(sqsUrlOfArn(url, 'arn:aws:sns:eu-west-1:1234:builds')).toBeNull()
  })
})
