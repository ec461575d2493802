/** One question and its answer on the screen; `update` shows whatever the turn has become. */

import { announce, note } from './dialogs.js';
import { button, h } from './dom.js';
import { isTerminal } from './conversation.js';
import { MarkdownView } from './markdown.js';
import { openPassage, place } from './passage.js';
import { brief } from './problems.js';

/** Why a model may have finished where it had more to say. */
const LIMITED = {
  length: 'The answer ends here because it reached the length that this app allows.',
  content_filter: 'The answer ends here because the provider’s filter stopped it.',
};

const MENTIONS = /\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]/g;

export class TurnView {
  #spoken = 0;
  #frame = null;
  #cited = '';
  #below = '';

  /** `acts` holds `again(turn)`, `repeat(turn)` and `edit(turn)`. */
  constructor(api, turn, acts) {
    Object.assign(this, { api, turn, acts });
    this.prose = h('div', { class: 'prose' });
    this.before = h('p', { class: 'thinking' });
    this.after = h('div', { class: 'after' });
    this.answer = h('div', { class: 'answer' }, h('h2', { class: 'unseen' }, 'Answer'), this.before, this.prose, this.after);
    this.prompt = h('div', { class: 'prompt' }, h('h2', { class: 'unseen' }, 'You asked'), h('p', {}, turn.prompt));
    this.element = h('article', { class: 'turn' }, this.prompt, this.answer);
    this.markdown = new MarkdownView(this.prose, (number) => this.#citation(number));
    this.#spoken = isTerminal(turn) ? Infinity : 0;
    this.#show();
  }

  /** Show the turn as it is now, at most once a frame. */
  update(stopping = false) {
    this.stopping = stopping;
    if (isTerminal(this.turn) || document.hidden) return this.#show();
    this.#frame ??= requestAnimationFrame(() => this.#show());
  }

  #show() {
    this.#frame = null;
    const { turn } = this;
    const running = !isTerminal(turn);
    this.element.dataset.status = turn.status;
    this.element.setAttribute('aria-busy', String(running));
    this.before.hidden = !running || turn.reply !== '';
    this.before.textContent = this.stopping ? 'Stopping …' : waiting(turn);
    if (this.#cited !== String(turn.citations.length)) this.markdown.reset();
    this.#cited = String(turn.citations.length);
    this.markdown.update(turn.reply);
    this.#finish(running);
    this.#speak(running);
    this.element.dispatchEvent(new CustomEvent('grown', { bubbles: true }));
  }

  /** Show what stands below the answer, and only if it changed: it may be under somebody's finger. */
  #finish(running) {
    const { turn } = this;
    const numbers = this.#numbers();
    const shown = JSON.stringify([turn.status, turn.error, turn.problem, turn.trouble, numbers]);
    if (shown === this.#below) return;
    this.#below = shown;
    const sources = turn.reply ? this.#sources(numbers) : null;
    const trouble = running && turn.trouble ? h('p', { class: 'hint' }, brief(turn.trouble)) : null;
    const parts = running ? [sources, trouble] : [this.#outcome(), sources, this.#actions()];
    this.after.replaceChildren(...parts.filter(Boolean));
  }

  #outcome() {
    const { turn } = this;
    const again = () => button('Ask again', () => this.acts.again(turn), { symbol: 'again' });
    if (turn.status === 'REFUSED') {
      const edit = button('Edit', () => this.acts.edit(turn), { symbol: 'edit' });
      return note(turn.problem, button('Try again', () => this.acts.repeat(turn), { symbol: 'again' }), edit);
    }
    if (turn.error || turn.status === 'FAILED') return note(turn.error ?? {}, again());
    if (turn.status === 'INTERRUPTED') return h('p', { class: 'stopped' }, `Stopped before the end. ${turn.reply ? 'What came so far is kept.' : ''}`, again());
    return LIMITED[turn.finishReason] ? h('p', { class: 'stopped' }, LIMITED[turn.finishReason]) : null;
  }

  #sources(numbers) {
    const shown = numbers.length ? numbers : this.turn.citations.map((_, n) => n + 1);
    if (!shown.length || (!numbers.length && !isTerminal(this.turn))) return null;
    const label = numbers.length ? 'Sources' : 'Read for this answer';
    return h('div', { class: 'sources' }, h('h3', {}, label), h('ul', {}, ...shown.map((n) => h('li', {}, this.#chip(n, shown)))));
  }

  #chip(number, shown) {
    const passage = this.turn.citations[number - 1];
    const open = () => openPassage(this.api, this.turn.citations, number, shown);
    const parts = [h('span', { class: 'number' }, String(number)), h('span', { class: 'name' }, passage.title), h('span', { class: 'place' }, place(passage))];
    return h('button', { type: 'button', class: 'source', on: { click: open } }, ...parts);
  }

  #citation(number) {
    const passage = this.turn.citations[number - 1];
    if (!passage) return null;
    const open = () => openPassage(this.api, this.turn.citations, number, this.#numbers());
    const label = `Source ${number}: ${passage.title} ${place(passage)}`;
    return h('button', { type: 'button', class: 'citation', 'aria-label': label, title: label, on: { click: open } }, String(number));
  }

  /** The numbers of the passages that the reply cites. */
  #numbers() {
    const numbers = [...this.turn.reply.matchAll(MENTIONS)].flatMap(([, list]) => list.split(/\s*[,;]\s*/).map(Number));
    return [...new Set(numbers)].filter((number) => this.turn.citations[number - 1]).sort((a, b) => a - b);
  }

  #actions() {
    const { turn } = this;
    if (!turn.reply) return null;
    const copy = async () => {
      const done = await navigator.clipboard?.writeText(turn.reply).then(() => true, () => false);
      announce(done ? 'Copied' : 'Copying is not allowed here');
      if (done) control.lastChild.data = 'Copied';
    };
    const control = button('Copy', copy, { symbol: 'copy', kind: 'faint' });
    return h('div', { class: 'row actions' }, control, h('span', { class: 'hint' }, turn.model));
  }

  #speak(running) {
    const until = this.markdown.length - (running ? 1 : 0);
    while (this.#spoken < until) announce(this.markdown.text(this.#spoken++));
    if (!running && this.#spoken !== Infinity) {
      announce(turnEnd(this.turn));
      this.#spoken = Infinity;
    }
  }
}

function waiting(turn) {
  if (turn.status === 'SENDING') return 'Sending …';
  if (turn.trouble) return 'Waiting for the connection …';
  return turn.citations.length ? `Reading ${turn.citations.length} passages …` : 'Looking in your documents …';
}

function turnEnd(turn) {
  if (turn.status === 'COMPLETED') return 'The answer is complete.';
  return turn.status === 'INTERRUPTED' ? 'The answer stopped before its end.' : '';
}
