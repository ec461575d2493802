/** The box where questions are written: Enter sends, Shift+Enter makes a new line, and the same button stops. */

import { icon } from './dom.js';

export class Composer {
  #drafts = new Map();
  #key = '';

  constructor({ form, input, act }, { send, stop }) {
    Object.assign(this, { form, input, act, send, stop, running: false, stopping: false });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    input.addEventListener('keydown', (event) => this.#keydown(event));
    input.addEventListener('input', () => this.show());
    this.show();
  }

  /** Turn to another chat, whose unsent text comes back. */
  open(key) {
    this.#drafts.set(this.#key, this.input.value);
    this.#key = key;
    this.input.value = this.#drafts.get(key) ?? '';
    this.show();
  }

  /** Drop what is written here and in every other chat. */
  forget() {
    this.#drafts.clear();
    this.#key = '';
    this.input.value = '';
    this.show();
  }

  write(text) {
    this.input.value = text;
    this.input.focus();
    this.show();
  }

  focus() {
    // On a touch screen the focus would throw up the keyboard over what is to be read.
    if (matchMedia('(hover: hover)').matches) this.input.focus();
  }

  /** Show whether an answer is running, so that the button is the one of use now. */
  show({ running = this.running, stopping = this.stopping } = {}) {
    const changed = running !== this.running || !this.act.firstChild;
    Object.assign(this, { running, stopping });
    const label = running ? 'Stop the answer' : 'Send';
    if (changed) this.act.replaceChildren(icon(running ? 'stop' : 'send'));
    this.act.setAttribute('aria-label', label);
    this.act.title = label;
    this.act.classList.toggle('running', running);
    this.act.disabled = running ? stopping : !this.input.value.trim();
    this.#grow();
  }

  #submit() {
    if (this.running) return this.stopping || this.stop();
    const text = this.input.value.trim();
    if (!text) return;
    this.input.value = '';
    this.show();
    this.send(text);
  }

  #keydown(event) {
    // While an input method composes a word, Enter only ends the composing.
    const sends = event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
    if (!sends) return;
    event.preventDefault();
    if (!this.running) this.#submit();
  }

  #grow() {
    if (CSS.supports('field-sizing', 'content')) return;
    this.input.style.height = 'auto';
    this.input.style.height = `${this.input.scrollHeight}px`;
  }
}
