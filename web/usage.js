/** What the calls to models came to in the last 30 days. */

import { note, show } from './dialogs.js';
import { h } from './dom.js';

const number = new Intl.NumberFormat();

export async function openUsage(api) {
  const body = h('div', {}, h('p', { class: 'hint' }, 'Counting …'));
  show('Usage of the last 30 days', body);
  try {
    body.replaceChildren(...content(await api.usage(30)));
  } catch (problem) {
    body.replaceChildren(note(problem));
  }
}

function content({ calls, inputTokens, outputTokens, rows }) {
  if (!calls) return [h('p', { class: 'nothing' }, 'Nothing yet. Ask something, and what it took is counted here.')];
  const total = (value, name) => h('div', {}, h('strong', {}, number.format(value)), h('span', { class: 'hint' }, name));
  const totals = h('div', { class: 'totals' }, total(calls, 'calls'), total(inputTokens, 'tokens in'), total(outputTokens, 'tokens out'));
  const columns = ['Day', 'Kind', 'Model', 'Calls', 'Tokens in', 'Tokens out'];
  const line = (row) => h('tr', {}, ...[row.day, row.kind, row.model].map((text) => h('td', {}, text)), ...[row.calls, row.inputTokens, row.outputTokens].map((count) => h('td', { class: 'count' }, number.format(count))));
  const head = h('thead', {}, h('tr', {}, ...columns.map((name, n) => h('th', { scope: 'col', class: n > 2 ? 'count' : null }, name))));
  return [totals, h('div', { class: 'table', tabindex: '0', role: 'group', 'aria-label': 'Usage by day' }, h('table', {}, head, h('tbody', {}, ...rows.map(line))))];
}
