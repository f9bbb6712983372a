import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Html, html, raw } from '../../../src/lib/server/pages/html.ts'
import { useBrowser } from '../../support/pages/use-browser.ts'

const text = (markup: Html) => markup.toString()

describe('html', () => {
  it('escapes text and attributes', () => {
    const hostile = `<img src=x onerror="alert('1')">&amp;`
    expect(text(html`<a title="${hostile}">${hostile}</a>`)).toBe(
      '<a title="&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;">&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;</a>',
    )
  })

  it('shows directional marks, which would reorder the text around them', () => {
    expect(text(html`<code>${'RUN \u202ehs.daolnwod \u2066x'}</code>`)).toBe(
      '<code>RUN &lt;U+202E&gt;hs.daolnwod &lt;U+2066&gt;x</code>',
    )
  })

  it('takes templates, lists of them, numbers, and trusted markup', () => {
    const items = ['<a>', html`<b>${1.5}</b>`, [raw('<i></i>'), 0]]
    expect(text(html`<p>${items}</p>`)).toBe('<p>&lt;a&gt;<b>1.5</b><i></i>0</p>')
  })

  it('renders nothing for null, undefined, and booleans', () => {
    expect(text(html`<p>${null}${undefined}${true}${false}</p>`)).toBe('<p></p>')
  })

  it('rejects values in attributes without quotes', () => {
    expect(() => html`<a title=${'x onclick=alert(1)'}>`).toThrow('quote the attribute')
    expect(() => html`<a title= ${'x'}>`).toThrow('quote the attribute')
  })
})

describe('in a browser', () => {
  const browser = useBrowser()

  /** As a parser reads it: controls and halves of characters cannot be in a document. */
  const shown = (value: string) =>
    value
      .replaceAll('\0', '\ufffd')
      .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, marked)
      .toWellFormed()
  const marked = (mark: string) => `<U+${mark.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}>`

  it('any value is the text that it was, in an element and in an attribute', async () => {
    await using opened = await browser.open()
    const hostile = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({
        unit: fc.constantFrom(
          '<',
          '>',
          '"',
          "'",
          '&',
          ';',
          '=',
          '/',
          '!',
          '-',
          'a',
          '#',
          '\r',
          '\n',
          '\0',
          '`',
        ),
      }),
      fc.constantFrom(
        '</p><script>alert(1)</script>',
        '"><svg onload=alert(1)>',
        '<!--',
        ']]>',
        '&#x3c;b&#x3e;',
        '&lt',
      ),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(hostile, { minLength: 1, maxLength: 30 }), async (values) => {
        const document = text(
          html`<!doctype html><body>${values.map((value) => html`<p title="${value}" lang='${value}'>${value}</p>`)}</body>`,
        )
        // As it is sent: in UTF-8.
        const sent = Buffer.from(document).toString()
        const read = (await opened.page.evaluate(
          `(() => {
            const { body } = new DOMParser().parseFromString(${JSON.stringify(sent)}, 'text/html')
            return [...body.querySelectorAll('*')].map((one) => [one.localName, one.title, one.lang, one.textContent])
          })()`,
        )) as unknown
        expect(read).toEqual(values.map((value) => ['p', shown(value), shown(value), shown(value)]))
      }),
      { numRuns: 60 },
    )
  })
})
