/** A model's markdown as safe elements: parsed, sanitised against a short list of tags, and never an image or a style.
 *
 * Whoever writes a document can make a model repeat it, so the text is hostile by default: a picture would tell a stranger's server
 * what was read, and so it becomes a link that names where it leads.
 */

import { h } from './dom.js';
import { Marked } from './vendor/marked.js';
import DOMPurify from './vendor/purify.js';

const TAGS = 'a b blockquote br code del em h3 h4 h5 h6 hr i kbd li ol p pre s strong sub sup table tbody td th thead tr ul'.split(' ');

const SAFE = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ['href', 'start', 'align'],
  ADD_URI_SAFE_ATTR: ['start', 'align'],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const escape = (text) => text.replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  renderer: {
    heading({ tokens, depth }) {
      // Above an answer stand two levels of headings of the page; most models begin with the second of their own.
      const level = Math.min(Math.max(depth, 2) + 1, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    code({ text }) {
      return `<pre><code>${escape(text)}</code></pre>`;
    },
    // Raw HTML is shown as what it is, text; only these few tags, without attributes, do what they say.
    html({ text, block }) {
      if (/^<\/?(?:br|kbd|sub|sup)\s*\/?>\s*$/i.test(text)) return text;
      return block ? `<p>${escape(text.trim())}</p>` : escape(text);
    },
    image({ href, text }) {
      return `<a href="${escape(href)}">${escape(text || 'Picture')} (picture, not loaded)</a>`;
    },
    checkbox({ checked }) {
      return checked ? '☑ ' : '☐ ';
    },
  },
  // A line such as “[1]: …” is a source that the model lists, not the definition of a link.
  tokenizer: { def: () => undefined },
});

const CITATION = /\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]/g;

/** An element that shows growing markdown: each `update` makes anew only the blocks that changed. */
export class MarkdownView {
  #blocks = [];

  /** `cite(n)` returns the button for passage n (from 1), or null if there is no such passage. */
  constructor(element, cite) {
    Object.assign(this, { element, cite });
  }

  update(text) {
    const tokens = marked.lexer(text).filter(({ type }) => type !== 'space');
    tokens.forEach((token, n) => this.#blocks[n]?.raw === token.raw || this.#replace(n, token));
    for (const { nodes } of this.#blocks.splice(tokens.length)) nodes.forEach((node) => node.remove());
  }

  /** Forget what was made, so that the next `update` makes everything anew. */
  reset() {
    this.#blocks = [];
    this.element.replaceChildren();
  }

  get length() {
    return this.#blocks.length;
  }

  /** The text of block `n`, for a voice that reads along. */
  text(n) {
    return this.#blocks[n].nodes.map((node) => node.textContent).join(' ').trim();
  }

  #replace(n, token) {
    const fragment = this.#render(token);
    const old = this.#blocks[n]?.nodes ?? [];
    const next = this.#blocks.slice(n + 1).find(({ nodes }) => nodes.length)?.nodes[0] ?? null;
    this.#blocks[n] = { raw: token.raw, nodes: [...fragment.childNodes] };
    old.forEach((node) => node.remove());
    this.element.insertBefore(fragment, next);
  }

  #render(token) {
    const fragment = DOMPurify.sanitize(marked.parser([token]), SAFE);
    for (const link of fragment.querySelectorAll('a')) harmless(link);
    for (const table of fragment.querySelectorAll('table')) scrollable(table);
    for (const block of fragment.querySelectorAll('pre')) copyable(block);
    this.#linkCitations(fragment);
    return fragment;
  }

  #linkCitations(fragment) {
    const texts = [];
    const walker = document.createTreeWalker(fragment, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) if (!walker.currentNode.parentElement?.closest('a, code, button')) texts.push(walker.currentNode);
    for (const text of texts) text.replaceWith(...this.#split(text.data));
  }

  #split(text) {
    const parts = [];
    let end = 0;
    for (const match of text.matchAll(CITATION)) {
      const buttons = match[1].split(/\s*[,;]\s*/).map((number) => this.cite(Number(number)));
      if (buttons.some((made) => made === null)) continue;
      parts.push(text.slice(end, match.index), ...buttons);
      end = match.index + match[0].length;
    }
    return [...parts, text.slice(end)];
  }
}

function harmless(link) {
  if (!link.hasAttribute('href')) return link.replaceWith(...link.childNodes);
  link.target = '_blank';
  link.rel = 'noopener noreferrer nofollow';
  link.title = link.href;
}

function scrollable(table) {
  const frame = h('div', { class: 'table', tabindex: '0', role: 'group', 'aria-label': 'Table' });
  table.replaceWith(frame);
  frame.append(table);
}

function copyable(block) {
  const code = block.textContent;
  const copy = h('button', { type: 'button', class: 'copy-code', on: { click: () => flash(copy, code) } }, 'Copy');
  const frame = h('div', { class: 'code' });
  block.tabIndex = 0;
  block.replaceWith(frame);
  frame.append(block, copy);
}

async function flash(copy, code) {
  const done = await navigator.clipboard?.writeText(code).then(() => true, () => false);
  copy.textContent = done ? 'Copied' : 'Not allowed';
  setTimeout(() => (copy.textContent = 'Copy'), 1500);
}
