/** The sheet that shows where a citation comes from: the passage, its place, and the way to the original. */

import { sheet } from './dialogs.js';
import { h, iconButton } from './dom.js';
import { downloadButton } from './download.js';

export function place({ page, line }) {
  if (page != null) return `page ${page}`;
  return line != null ? `line ${line}` : '';
}

/** Open passage `number` (from 1) of `citations`; `numbers` are those that the reader can leaf through. */
export function openPassage(api, citations, number, numbers) {
  const { body } = sheet('Source');
  const show = (at) => {
    const passage = citations[at - 1];
    body.replaceChildren(header(passage, at), text(passage), footer(api, passage, at, numbers, show));
    body.scrollTop = 0;
  };
  show(number);
}

function header(passage, number) {
  const facts = [place(passage), passage.shared && 'shared with everyone in this app'].filter(Boolean).join(' · ');
  return h(
    'header',
    { class: 'passage-head' },
    h('span', { class: 'number' }, String(number)),
    h('div', {}, h('h3', {}, passage.title), facts && h('p', { class: 'facts' }, facts)),
  );
}

function text(passage) {
  const path = passage.headings?.length ? h('p', { class: 'path' }, passage.headings.join(' › ')) : null;
  return h('div', {}, path, h('blockquote', { class: 'passage' }, passage.text));
}

function footer(api, passage, number, numbers, show) {
  const at = numbers.indexOf(number);
  const step = (label, symbol, to) => iconButton(symbol, label, () => show(to), { disabled: to === undefined });
  const count = h('span', { class: 'hint' }, `${at + 1} of ${numbers.length}`);
  const leaf = numbers.length > 1 && at >= 0 && [step('Previous source', 'left', numbers[at - 1]), count, step('Next source', 'right', numbers[at + 1])];
  return h('footer', { class: 'row between' }, originalLink(api, passage.document), leaf && h('div', { class: 'row leaf' }, ...leaf));
}

/** A button for the original file. */
export function originalLink(api, id, { label = 'Download the original', kind = '' } = {}) {
  return downloadButton(() => api.original(id), { label, kind, gone: 'The original is no longer here.' });
}
