/** A form that is made of a JSON Schema. The server alone decides what fits; what it says is shown at the field that it is about. */

import { h } from '../dom.js';
import { choices, label, properties, resolved, typeOf } from './schema.js';

const LONG = 300;

/** Make the form of an object's schema: `elements` to show, `value()` of what was filled in, `show(problems)` beside their fields. */
export class Form {
  constructor(schema) {
    this.root = schema;
    this.fields = [];
    this.elements = this.#object(schema, '$', () => this.value());
    this.hints();
  }

  value() {
    return collected(this.fields.filter(({ parent }) => parent === '$'), this.fields);
  }

  /** Say at each field how it is to be written, for what the others hold now. */
  hints() {
    for (const field of this.fields) {
      const values = collected(this.fields.filter(({ parent }) => parent === field.parent), this.fields);
      const schema = properties(this.root, field.within, values)[field.name] ?? field.schema;
      field.hint.textContent = schema.description ?? '';
      const example = schema.examples?.[0];
      if ('placeholder' in field.input) field.input.placeholder = example === undefined ? '' : `For example ${typeof example === 'string' ? example : JSON.stringify(example)}`;
    }
  }

  /** Show what is wrong with the input, and go to the first field of it; returns what belongs to no field. */
  show(problems) {
    this.clear();
    const others = [];
    for (const problem of problems) {
      const field = this.fields.findLast(({ path }) => problem.path === path || problem.path.startsWith(`${path}.`) || problem.path.startsWith(`${path}[`));
      if (!field || field.fields) others.push(problem);
      else if (!field.error.textContent) {
        field.error.textContent = inWords(problem.problem, field.hint.textContent);
        field.input.setAttribute('aria-invalid', 'true');
      }
    }
    this.fields.find(({ input }) => input.getAttribute('aria-invalid'))?.input.focus();
    return others;
  }

  clear() {
    for (const { error, input } of this.fields) {
      error.textContent = '';
      input.removeAttribute('aria-invalid');
    }
  }

  #object(schema, path) {
    const needed = schema.required ?? [];
    const parts = Object.entries(properties(this.root, schema, {}));
    return parts.map(([name, part]) => this.#field(name, part, { parent: path, within: schema, needed: needed.includes(name) }));
  }

  #field(name, schema, { parent, within, needed }) {
    const path = `${parent}.${name}`;
    const id = `field${path.slice(1).replaceAll('.', '-')}`;
    const text = needed ? label(name, schema) : `${label(name, schema)} (optional)`;
    const hint = h('p', { class: 'hint', id: `${id}-hint` });
    const error = h('p', { class: 'reason', id: `${id}-error`, role: 'alert' });
    const inner = typeOf(schema) === 'object' && schema.properties;
    const input = inner ? h('fieldset', {}, h('legend', {}, text)) : control(this.root, schema, id, needed);
    const field = { name, path, parent, within, schema, input, hint, error, fields: Boolean(inner) };
    this.fields.push(field);
    if (inner) {
      input.append(hint, ...this.#object(schema, path));
      return input;
    }
    input.addEventListener('input', () => this.hints());
    return h('div', { class: 'field' }, h('label', { for: id }, text), hint, input, error);
  }
}

function control(root, schema, id, needed) {
  const about = { id, name: id, 'aria-describedby': `${id}-hint ${id}-error`, 'aria-required': needed ? 'true' : null, autocomplete: 'off' };
  const options = choices(schema);
  if (options) return h('select', about, h('option', { value: '' }, 'Choose …'), ...options.map(({ text }, n) => h('option', { value: String(n) }, text)));
  const type = typeOf(schema);
  if (type === 'boolean') return h('input', { ...about, type: 'checkbox' });
  if (type === 'integer' || type === 'number') return h('input', { ...about, inputmode: 'decimal' });
  if (type === 'string' && !(schema.maxLength > LONG)) return h('input', { ...about, maxlength: schema.maxLength ?? null, spellcheck: 'false' });
  return h('textarea', { ...about, rows: '4' });
}

/** The values of an object's fields; what was left empty is left out. */
function collected(fields, all) {
  const values = {};
  for (const field of fields) {
    const value = field.fields ? collected(all.filter(({ parent }) => parent === field.path), all) : written(field);
    if (value !== undefined) values[field.name] = value;
  }
  return values;
}

function written({ schema, input }) {
  const options = choices(schema);
  if (options) return options[Number(input.value || NaN)]?.value;
  if (input.type === 'checkbox') return input.checked;
  const text = input.value.trim();
  if (!text) return undefined;
  const type = typeOf(schema);
  if (type === 'integer' || type === 'number') return Number.isFinite(Number(text)) ? Number(text) : text;
  if (type === 'array' && typeOf(resolved(schema, schema.items)) === 'string') return text.split('\n').map((line) => line.trim()).filter(Boolean);
  if (type === 'string') return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** What is wrong with a field, for whoever fills it in: a pattern says nothing to them, its description does. */
function inWords(problem, hint) {
  if (problem === 'is missing') return 'This is needed.';
  if (problem.startsWith('must match the pattern')) return hint ? `This is not of that form. ${hint}` : 'This is not of the form that is asked for.';
  if (problem.startsWith('must fit one of the alternatives')) return 'Choose one of these.';
  return `This ${problem}.`;
}
