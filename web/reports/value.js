/** A JSON value for people, laid out by its schema: sections, lists, and marks for what was chosen among a few. */

import { h } from '../dom.js';
import { choices, label, properties, resolved, typeOf } from './schema.js';

/** The sections of an object, one per property that is there. */
export function sections(root, schema, value, level = 2) {
  const parts = properties(root, schema, value);
  const names = [...Object.keys(parts).filter((name) => name in value), ...Object.keys(value).filter((name) => !(name in parts))];
  return names.map((name) => {
    const part = parts[name] ?? {};
    const head = h(`h${Math.min(level, 6)}`, {}, label(name, part));
    return h('section', { class: choices(part) ? 'line' : null, data: { field: name } }, head, shown(root, part, value[name], level));
  });
}

function shown(root, schema, value, level) {
  if (value === null || value === undefined || value === '') return h('p', { class: 'hint' }, 'Nothing.');
  if (Array.isArray(value)) return list(root, resolved(root, schema.items), value, level);
  if (typeof value === 'object') return h('div', {}, ...sections(root, schema, value, level + 1));
  return choices(schema) ? mark(schema, value) : h('p', {}, plain(value));
}

function list(root, schema, values, level) {
  if (!values.length) return h('p', { class: 'hint' }, 'None.');
  if (values.some((value) => typeof value === 'object' && value !== null)) return h('ul', { class: 'cards' }, ...values.map((value) => h('li', { class: 'card finding' }, ...card(root, schema, value, level))));
  return h('ul', { class: 'points' }, ...values.map((value) => h('li', {}, plain(value))));
}

/** One of a list's objects: its texts, then small marks with what else is said of it. */
function card(root, schema, value, level) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [h('p', {}, plain(value))];
  const parts = Object.entries(properties(root, schema, value)).filter(([name]) => name in value);
  const small = ([name, part]) => choices(part) || ['number', 'integer', 'boolean'].includes(typeOf(part)) || typeof value[name] === 'number';
  const texts = parts.filter((part) => !small(part)).map(([name, part]) => shown(root, part, value[name], level + 1));
  const marks = parts.filter(small).map(([name, part]) => h('span', { class: 'fact' }, h('span', { class: 'hint' }, label(name, part)), mark(part, value[name])));
  return [...texts, marks.length > 0 && h('p', { class: 'marks' }, ...marks)].filter(Boolean);
}

function mark(schema, value) {
  const text = choices(schema)?.find((choice) => choice.value === value)?.text ?? plain(value);
  return h('strong', { class: 'mark-of', data: { value: String(value) } }, text);
}

function plain(value) {
  if (typeof value === 'boolean') return value ? 'Yes' : 'No';
  if (typeof value === 'number') return new Intl.NumberFormat().format(value);
  return typeof value === 'string' ? value : JSON.stringify(value);
}
