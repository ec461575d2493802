/** Which model answers; when it is only the stand-in, the page says so and how to set a real one. */

import { show } from './dialogs.js';
import { $, button, h, icon, iconButton } from './dom.js';
import { tab } from './state.js';

/** Dismissed for this tab alone: a new visit says it again. */
const DISMISSED = 'model-banner';

const WAYS = [
  ['OpenAI', 'OPENAI_API_KEY=sk-…'],
  ['Ollama, on this machine', 'OPENAI_BASE_URL=http://127.0.0.1:11434/v1\nCHAT_MODEL=llama3.2\nBACKEND_EMBEDDER=local'],
  ['Any OpenAI-compatible endpoint', 'OPENAI_BASE_URL=https://…/v1\nOPENAI_API_KEY=…\nCHAT_MODEL=…'],
];

export function showModel({ model, version }) {
  const name = model.standIn ? button('Stand-in, not a language model', explain, { kind: 'link' }) : h('span', {}, model.name);
  $('#model').replaceChildren(name);
  $('#model').title = `Brainstem ${version}`;
  $('#banner').replaceChildren(...(model.standIn && !tab.get(DISMISSED) ? [banner()] : []));
}

function banner() {
  const close = () => {
    tab.set(DISMISSED, 'yes');
    element.remove();
  };
  const words = h('p', {}, h('strong', {}, 'No language model is set.'), ' Answers are sentences found in your documents, put together by a stand-in.');
  const element = h('aside', { class: 'banner', 'aria-label': 'About the model' }, icon('info'), words, button('Set a model', explain, { kind: 'link' }), iconButton('close', 'Dismiss', close));
  return element;
}

function explain() {
  const way = ([name, lines]) => h('section', {}, h('h3', {}, name), h('pre', { class: 'lines' }, lines));
  show(
    'Set a language model',
    h('p', {}, 'Put these lines in a file named ', h('code', {}, '.env'), ' in the folder where Brainstem runs, then start it again.'),
    ...WAYS.map(way),
    h('p', { class: 'hint' }, 'With a provider’s model, your questions and the passages that answer them are sent to that provider.'),
  );
}
