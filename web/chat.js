/** The open chat on the screen: its turns, the way to older ones, and a scroll position that does not fight the reader. */

import { announce, note } from './dialogs.js';
import { button, h, update } from './dom.js';
import { TurnView } from './turn.js';

const NEAR = 80;

export class ChatView {
  #views = new Map();
  #stop = new AbortController();

  /** `empty()` gives what stands in a chat without turns; `acts` go to each turn. */
  constructor({ scroller, thread, jump, empty, acts }) {
    Object.assign(this, { scroller, thread, jump, empty, acts, conversation: null, sticks: true });
    scroller.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    thread.addEventListener('grown', () => this.#stick());
    jump.addEventListener('click', () => this.toEnd());
    new ResizeObserver(() => this.#stick()).observe(scroller);
  }

  show(conversation) {
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#views.clear();
    this.conversation = conversation;
    conversation.addEventListener('turns', () => this.render(), this.#stop);
    conversation.addEventListener('turn', ({ detail }) => this.#views.get(detail?.key)?.update(conversation.stopping), this.#stop);
    this.render();
    this.toEnd();
  }

  /** Load the shown chat; what goes wrong is said in its place, with the way on. */
  async load(actions) {
    const { conversation } = this;
    this.thread.replaceChildren(h('p', { class: 'loading' }, 'Opening the chat …'));
    try {
      await conversation.load();
      if (conversation === this.conversation) this.toEnd();
    } catch (problem) {
      if (conversation === this.conversation) this.thread.replaceChildren(note(problem, ...actions(problem)));
    }
  }

  render() {
    const { turns, older, fresh } = this.conversation;
    if (!turns.length) return update(this.thread, fresh ? [this.empty()] : []);
    const elements = turns.map((turn) => this.#view(turn).element);
    update(this.thread, [...(older ? [this.#olderButton()] : []), ...elements]);
    this.#stick();
  }

  /** Draw the empty state anew, if it is on the screen. */
  refreshEmpty() {
    const { conversation } = this;
    if (conversation?.fresh && !conversation.turns.length) this.render();
  }

  toEnd() {
    this.sticks = true;
    this.#stick();
  }

  #view(turn) {
    const known = this.#views.get(turn.key);
    if (known?.turn === turn) return known;
    const view = new TurnView(this.conversation.api, turn, this.acts);
    this.#views.set(turn.key, view);
    return view;
  }

  #olderButton() {
    const more = async () => {
      control.disabled = true;
      const fromEnd = this.scroller.scrollHeight - this.scroller.scrollTop;
      try {
        await this.conversation.loadOlder();
        this.scroller.scrollTop = this.scroller.scrollHeight - fromEnd;
        announce('Earlier messages are shown.');
      } catch (problem) {
        control.replaceWith(note(problem, button('Try again', more)));
      }
    };
    const control = button('Show earlier messages', more, { kind: 'quiet center' });
    return control;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.sticks = scrollHeight - scrollTop - clientHeight < NEAR;
    this.jump.hidden = this.sticks;
  }

  #stick() {
    if (this.sticks) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.#scrolled();
  }
}
