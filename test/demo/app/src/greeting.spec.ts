import assert from 'node:assert/strict'
import { test } from 'node:test'
import { greet, languages } from './greeting.ts'

test('greets by name in every language', () => {
  for (const language of languages) assert.match(greet('Ada', language) ?? '', /\bAda\b/)
})

test('returns nothing for an unknown language', () => {
  for (const language of ['tlh', '', 'constructor']) assert.equal(greet('Ada', language), undefined)
})
