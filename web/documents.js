/** The documents on the screen: a short list in the sidebar, all of them in a sheet, and what is under way above the composer. */

import { confirm, note, notice, sheet } from './dialogs.js';
import { button, h, icon, iconButton, update } from './dom.js';
import { kinds } from './kinds.js';
import { isPending } from './library.js';
import { originalLink } from './passage.js';
import { brief } from './problems.js';

const SHORT = 4;

/** The newest documents, for the sidebar. */
export function shortList(library, openAll) {
  if (library.problem && !library.loaded) return [note(library.problem, button('Try again', () => library.load()))];
  if (!library.loaded) return [h('p', { class: 'hint' }, 'Loading …')];
  if (!library.documents.length) return [h('p', { class: 'hint' }, 'None yet. Drop a file anywhere.')];
  const row = (doc) => h('li', {}, h('button', { type: 'button', class: 'doc-line', title: doc.title, data: { focus: doc.id }, on: { click: openAll } }, badge(doc), h('span', { class: 'name' }, doc.title), state(doc)));
  const more = library.documents.length > SHORT || library.next;
  return [h('ul', {}, ...library.documents.slice(0, SHORT).map(row)), more && button('Show all', openAll, { kind: 'quiet center' })].filter(Boolean);
}

/** Open the sheet with all documents; it follows the library until it is closed. */
export function openDocuments(library, pick) {
  const { dialog, body } = sheet('Documents');
  const stop = new AbortController();
  const render = () => update(body, sheetContent(library, pick));
  library.addEventListener('change', render, stop);
  dialog.addEventListener('close', () => stop.abort());
  render();
}

function sheetContent(library, pick) {
  const add = button('Add files', pick, { kind: 'primary', symbol: 'plus', data: { focus: 'add' } });
  const head = h('div', { class: 'head' }, h('p', { class: 'hint' }, kinds(library.limits)), add);
  if (library.problem && !library.loaded) return [note(library.problem, button('Try again', () => library.load()))];
  if (!library.documents.length) return [head, h('p', { class: 'nothing' }, 'No documents yet. Drop a PDF anywhere on this page, then ask about it.')];
  const rows = library.documents.map((doc) => card(library, doc));
  const more = library.next && button('Show more', () => library.more().catch((problem) => notice(brief(problem))), { kind: 'quiet center', data: { focus: 'more' } });
  return [head, h('ul', { class: 'cards' }, ...rows), more].filter(Boolean);
}

function card(library, doc) {
  const facts = [size(doc.bytes), doc.status === 'COMPLETED' && passages(doc.chunks), new Date(doc.created).toLocaleDateString()];
  const remove = iconButton('trash', `Delete “${doc.title}”`, () => removeDocument(library, doc), { data: { focus: doc.id } });
  return h(
    'li',
    { class: 'card', data: { document: doc.id, status: doc.status } },
    badge(doc),
    h('div', { class: 'grow' }, h('h3', {}, doc.title), h('p', { class: 'facts' }, facts.filter(Boolean).join(' · ')), state(doc, true), doc.summary && h('p', { class: 'hint' }, doc.summary.text), originalLink(library.api, doc.id, { label: 'Download', kind: 'quiet' })),
    remove,
  );
}

async function removeDocument(library, doc) {
  const text = `“${doc.title}” and everything that was read from it will be gone for good. Answers that cite it keep their text.`;
  if (!(await confirm({ title: 'Delete this document?', text, action: 'Delete' }))) return;
  try {
    await library.remove(doc.id);
    notice('The document was deleted.');
  } catch (problem) {
    notice(brief(problem));
  }
}

/** What is being uploaded and read, for the place above the composer. */
export function tray(library) {
  return library.uploads.map((entry) => {
    const failed = entry.problem || entry.document?.status === 'FAILED';
    const retry = entry.problem?.retryable && entry.file && button('Try again', () => library.send(entry), { data: { focus: `again-${entry.key}` } });
    const close = (failed || entry.document) && iconButton('close', `Dismiss “${entry.name}”`, () => library.dismiss(entry), { data: { focus: `close-${entry.key}` } });
    return h('li', { class: failed ? 'upload failed' : 'upload', data: { key: entry.key } }, badge({ title: entry.name }), h('div', { class: 'grow' }, h('span', { class: 'name' }, entry.name), uploadState(entry)), retry, close);
  });
}

function uploadState(entry) {
  if (entry.problem) return h('p', { class: 'reason', role: 'alert' }, brief(entry.problem));
  if (!entry.document) return progress('Uploading', entry.sent, 1);
  if (entry.known && !isPending(entry.document) && entry.document.status !== 'FAILED') return h('p', { class: 'good' }, 'You have this one already. Ask about it.');
  return state(entry.document, true);
}

/** Where a document is on its way, as a mark (for the sidebar) or in words. */
function state(doc, wordy = false) {
  const { status, done, total } = doc;
  if (status === 'PENDING') return wordy ? progress('Waiting to be read') : progress('');
  if (status === 'PROCESSING') return wordy ? progress(total ? `Reading, ${Math.floor((100 * done) / total)} %` : 'Reading', done, total) : progress('', done, total);
  if (status === 'FAILED') return wordy ? h('p', { class: 'reason' }, doc.error || 'This file cannot be read.') : mark('alert', 'Could not be read', 'bad');
  return wordy ? h('p', { class: 'good' }, icon('check'), 'Ready. Ask about it.') : mark('check', 'Ready', 'good');
}

function mark(symbol, label, kind) {
  return h('span', { class: `mark ${kind}`, role: 'img', 'aria-label': label, title: label }, icon(symbol));
}

function progress(words, value = null, max = null) {
  const bar = h('progress', { 'aria-label': words || 'Reading', max: max || null, value: max ? value : null });
  return h('span', { class: 'progress' }, words && h('span', { class: 'hint' }, words), bar);
}

function badge({ title }) {
  const kind = /\.([A-Za-z0-9]{1,5})$/.exec(title)?.[1] ?? 'file';
  return h('span', { class: 'badge', 'aria-hidden': 'true', data: { kind: kind.toLowerCase() } }, kind.slice(0, 4));
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function passages(count) {
  return count === 1 ? '1 passage' : `${count} passages`;
}
