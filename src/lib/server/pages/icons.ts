import type { BuildState } from '../../core/build.ts'
import { type Html, html, raw } from './html.ts'

/** What the icon of a tab can show: a build's state, or `none` for pages that are about no build. */
export type IconState = BuildState | 'none'

export const ICON_STATES: readonly IconState[] = [
  'none',
  'pending',
  'building',
  'succeeded',
  'failed',
  'cancelled',
]

/** In a box of 16 by 16: each state has a shape of its own, not only a colour. */
const SHAPES: Record<IconState, string> = {
  none: '<path d="M2.5 5.5 8 2.5l5.5 3v5L8 13.5l-5.5-3zM2.5 5.5 8 8.5l5.5-3M8 8.5v5"/>',
  pending: '<circle cx="8" cy="8" r="5.5" stroke-dasharray="2.2 2.12"/>',
  building: '<circle cx="8" cy="8" r="5.5" opacity=".3"/><path d="M8 2.5A5.5 5.5 0 0 1 13.5 8"/>',
  succeeded: '<circle cx="8" cy="8" r="5.5"/><path d="m5.5 8.2 1.8 1.8 3.3-3.8"/>',
  failed: '<circle cx="8" cy="8" r="5.5"/><path d="m6 6 4 4M10 6l-4 4"/>',
  cancelled: '<circle cx="8" cy="8" r="5.5"/><path d="M5 8h6"/>',
}

const STROKE = 'fill="none" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round"'

/** Readable on light and dark tabs. */
const TAB_COLOURS: Record<IconState, string> = {
  none: '#3b74e8',
  pending: '#8a8f98',
  building: '#c98a00',
  succeeded: '#2da04e',
  failed: '#e5484d',
  cancelled: '#8a8f98',
}

/** The shapes, once on each page, so that a list of icons stays small. */
export const SPRITE: Html = html`<svg class="sprite" aria-hidden="true">${ICON_STATES.map(
  (state) => html`<symbol id="i-${state}" viewBox="0 0 16 16">${raw(SHAPES[state])}</symbol>`,
)}</svg>`

/** The icon of a state within a line of text, in the text's colour. It says nothing to screen readers: write the state, too. */
export function stateIcon(state: IconState): Html {
  return html`<svg class="icon" aria-hidden="true"><use href="#i-${state}"/></svg>`
}

/** A state as icon, colour and text. */
export function stateLabel(state: BuildState): Html {
  return html`<span class="state ${state}">${stateIcon(state)}${state}</span>`
}

/** The icon of a browser tab, an SVG image. */
export function favicon(state: IconState): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="1 1 14 14" stroke="${TAB_COLOURS[state]}" ${STROKE.replace('1.5', '2')}>${SHAPES[state]}</svg>`
}
