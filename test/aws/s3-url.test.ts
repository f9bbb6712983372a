import { describe, expect, it } from 'vitest'
import { parseS3Url, s3Url } from '../../src/lib/aws/s3-url.ts'

describe('S3 URLs', () => {
  it.each([
    ['s3://logs', { bucket: 'logs', prefix: '' }],
    ['s3://logs/', { bucket: 'logs', prefix: '' }],
    ['s3://my.logs-1/team/a', { bucket: 'my.logs-1', prefix: 'team/a' }],
    ['s3://logs/team//', { bucket: 'logs', prefix: 'team' }],
  ])('parses %s', (text, location) => {
    expect(parseS3Url(text)).toEqual(location)
    expect(parseS3Url(s3Url(location))).toEqual(location)
  })

  it.each([
    '',
    's3://',
    's3://ab',
    's3://Upper',
    's3:///team',
    'https://logs',
    's3://-a-',
    `s3://${'x'.repeat(64)}`,
  ])('refuses %j', (text) => {
    expect(parseS3Url(text)).toBeUndefined()
  })
})
