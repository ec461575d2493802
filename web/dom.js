/** Building elements. Text only ever becomes text: nothing here, nor in its callers, parses a string as HTML. */

const SVG = 'http://www.w3.org/2000/svg';

/** Make an element: `on` holds listeners, `data` data attributes, `class` and the rest attributes; null children are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, data = {}, ...attributes } = props;
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Draw one of the page's symbols; it means nothing to a screen reader, so its button needs a label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  const use = document.createElementNS(SVG, 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, click, props = {}) {
  const { class: extra = '', ...rest } = props;
  return h('button', { type: 'button', class: `icon-button ${extra}`.trim(), 'aria-label': label, title: label, on: { click }, ...rest }, icon(name));
}

export function button(text, click, { kind = 'quiet', symbol, ...rest } = {}) {
  return h('button', { type: 'button', class: `button ${kind}`.trim(), on: { click }, ...rest }, symbol && icon(symbol), text);
}

export const $ = (selector, root = document) => root.querySelector(selector);

/** Show `elements` in `root`. What is there already stays, or is only filled anew if it has the same `data-key`, so that
 * animations go on and the focus stays: an element that is gone hands it to the one of the same `data-focus`. */
export function update(root, elements) {
  const held = root.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const old = [...root.children];
  const shown = elements.map((element) => reuse(old, element));
  for (const element of old) if (!shown.includes(element)) element.remove();
  shown.forEach((element, n) => root.children[n] === element || root.insertBefore(element, root.children[n] ?? null));
  if (held === undefined || root.contains(document.activeElement)) return;
  (root.querySelector(`[data-focus="${CSS.escape(held)}"]`) ?? root.querySelector('[data-focus]'))?.focus();
}

function reuse(old, element) {
  const { key } = element.dataset;
  const same = old.find((other) => other === element || (key && other.dataset.key === key) || other.isEqualNode(element));
  if (!same || same === element || same.isEqualNode(element)) return same ?? element;
  same.className = element.className;
  same.replaceChildren(...element.childNodes);
  return same;
}

/** An id of 20 characters that servers accept and nobody guesses; works without a secure context, unlike randomUUID. */
export function newId() {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
  return Array.from(crypto.getRandomValues(new Uint8Array(20)), (byte) => alphabet[byte % 32]).join('');
}

export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
