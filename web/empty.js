/** What stands where a chat has no turns yet: what to do next. */

import { button, h, icon } from './dom.js';
import { kinds } from './kinds.js';
import { isPending } from './library.js';
import { state } from './state.js';

const isLocal = () => state.config.signIn === 'local';

export function emptyState(library, pick) {
  const { ready, documents, loaded } = library;
  const reading = documents.some(isPending);
  if (ready.length) return scene('What would you like to know?', `${ready.length === 1 ? 'One document is' : `${ready.length}${library.next ? '+' : ''} documents are`} ready. Answers cite the passages they come from.`);
  if (reading) return scene('Your document is being read', 'It takes a moment. You can ask as soon as it is ready.');
  if (!loaded) return scene('', '');
  const choose = button('Choose a file', pick, { kind: 'primary', symbol: 'plus' });
  return scene(
    'Drop a PDF here, then ask about it',
    'Answers cite the passages they come from, so that you can check them.',
    h('div', { class: 'drop-zone' }, icon('upload'), choose, h('p', { class: 'hint' }, kinds(library.limits)), isLocal() && h('p', { class: 'hint' }, 'Files are kept on this machine.')),
  );
}

function scene(title, text, ...more) {
  return h('div', { class: 'empty' }, h('h2', {}, title), h('p', {}, text), ...more);
}
