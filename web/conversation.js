/** One chat and its turns, without any view: load, ask, stop, and find out what became of a turn whose connection broke.
 *
 * A turn here is the server's, with a stable `key`. Before the server has accepted it its status is SENDING, or REFUSED with
 * the `problem`. `trouble` is set while a running turn cannot be looked up.
 */

import { newId, wait } from './dom.js';
import { offline, Problem } from './problems.js';

export const isTerminal = (turn) => ['COMPLETED', 'INTERRUPTED', 'FAILED', 'REFUSED'].includes(turn.status);

export class Conversation extends EventTarget {
  constructor(api, id, { fresh = false } = {}) {
    super();
    Object.assign(this, { api, id, fresh, title: '', turns: [], older: null, closed: false, stopping: false });
    this.abort = null;
  }

  /** The turn that is being answered now, if any. */
  get running() {
    return this.turns.find((turn) => !isTerminal(turn)) ?? null;
  }

  /** Read the newest turns; a turn that still runs, but not here, is followed until it ends. */
  async load() {
    const page = await this.api.chat(this.id);
    this.title = page.title;
    this.turns = page.turns.map(keyed);
    this.older = page.nextCursor;
    this.tell('turns');
    if (this.running) this.follow(this.running, 2000);
  }

  async loadOlder() {
    const page = await this.api.chat(this.id, this.older);
    this.turns = [...page.turns.map(keyed), ...this.turns];
    this.older = page.nextCursor;
    this.tell('turns');
  }

  /** Ask; `id` is given only to repeat a message of which nobody knows whether it arrived. Resolves when the turn has ended. */
  async ask(text, id = newId()) {
    const turn = { key: id, id, prompt: text, reply: '', citations: [], status: 'SENDING', created: new Date().toISOString() };
    this.turns = [...this.turns.filter((other) => other.key !== id), turn];
    this.tell('turns');
    await this.run(turn);
  }

  async run(turn) {
    this.abort = new AbortController();
    try {
      for await (const event of this.api.ask(this.id, { id: turn.id, text: turn.prompt }, this.abort.signal)) this.receive(turn, event);
    } catch (error) {
      if (error instanceof Problem && error.code !== 'network') return this.refuse(turn, error);
    }
    if (!isTerminal(turn)) await this.follow(turn, this.stopping ? 250 : 1000);
    this.abort = null;
  }

  receive(turn, { event, data }) {
    if (event === 'accepted') {
      this.fresh = false;
      this.title = data.chat.title;
      Object.assign(turn, data.turn, { problem: null });
      this.tell('chat', data.chat);
    }
    if (event === 'citations') Object.assign(turn, { status: 'STREAMING', citations: data.citations });
    if (event === 'delta') Object.assign(turn, { status: 'STREAMING', reply: turn.reply + data.text });
    if (event === 'done') Object.assign(turn, data.turn);
    if (event === 'error') Object.assign(turn, data.turn ?? { status: 'FAILED', error: data });
    this.tell('turn', turn);
  }

  refuse(turn, problem) {
    Object.assign(turn, { status: 'REFUSED', problem });
    this.tell('turn', turn);
  }

  /** Stop the answer: leaving the stream is the signal, and the server keeps what came so far. */
  async stop() {
    if (!this.abort) return;
    this.stopping = true;
    this.tell('turn', this.running);
    this.abort.abort();
  }

  /** Ask the server every `pause` milliseconds what became of a turn, until it has ended. */
  async follow(turn, pause) {
    while (!isTerminal(turn) && !this.closed) {
      await wait(pause);
      await this.look(turn);
      pause = turn.trouble ? Math.min(pause * 2, 8000) : this.stopping ? 500 : 2000;
    }
    this.stopping = false;
    this.tell('turn', turn);
  }

  async look(turn) {
    const accepted = turn.status !== 'SENDING';
    try {
      const { turns } = await this.api.chat(this.id, null, 5);
      const found = turns.find(({ id }) => id === turn.id);
      turn.trouble = null;
      if (found) this.learn(turn, found);
      else this.refuse(turn, this.lost(accepted));
    } catch (error) {
      // Never accepted and nobody to ask: the person decides when to try again, and the same id makes that harmless.
      if (error.status === 404 || !accepted) this.refuse(turn, this.lost(accepted));
      else turn.trouble = error;
    }
    this.tell('turn', turn);
  }

  /** Take what the server has stored, but never less of a running answer than is on the screen already. */
  learn(turn, found) {
    const reply = !isTerminal(found) && found.reply.length < turn.reply.length ? turn.reply : found.reply;
    Object.assign(turn, found, { reply });
  }

  lost(accepted) {
    if (accepted) return new Problem({ code: 'not_found', status: 404 });
    return this.stopping ? new Problem({ code: 'not_sent' }) : offline();
  }

  /** Take a refused turn off the screen. */
  drop(turn) {
    this.turns = this.turns.filter((other) => other !== turn);
    this.tell('turns');
  }

  /** Forget about the turns: nothing is looked up any more. */
  close() {
    this.closed = true;
    this.abort?.abort();
  }

  tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function keyed(turn) {
  return { ...turn, key: turn.id };
}
