/** The sidebar's chats: newest first by day, each with its link, its rename and its delete. */

import { ask, confirm, note, notice } from './dialogs.js';
import { $, button, h, iconButton } from './dom.js';
import { brief } from './problems.js';

const DAY = 86_400_000;
const NEWEST = 30;

export class ChatList {
  #stop = () => {};

  /** `state()` tells {app, chat}; `running(id)` whether a chat is answering; `gone(id)` is called when one was deleted. */
  constructor(element, { state, running, gone, renamed }) {
    Object.assign(this, { element, state, running, gone, renamed });
    this.#forget(null);
  }

  /** Show an app's chats. `live`, where there is such a thing, tells of every change: to `changed` all of the newest chats, to
   * `lost` that it cannot for now; it returns what ends it. What it does not tell is read over HTTP, as everywhere else. */
  async open(api, live) {
    this.close();
    this.#forget(api);
    this.render();
    if (live) this.#stop = live(NEWEST, { changed: (chats) => this.#hear(chats), lost: () => this.#lost() });
    await this.refresh();
  }

  close() {
    this.#stop();
    this.#stop = () => {};
    this.#forget(null);
    this.element.replaceChildren();
  }

  #forget(api) {
    Object.assign(this, { api, chats: [], next: undefined, problem: null, loaded: false, hears: false });
  }

  /** Take the newest chats as they are now: one that is missing among them was deleted, older ones stay below. */
  #hear(newest) {
    const whole = newest.length < NEWEST;
    const older = whole ? [] : this.chats.filter(({ updated }) => updated < newest.at(-1).updated);
    const before = this.chats;
    this.chats = unique([...newest, ...older]);
    if (whole && this.next) this.next = null;
    const first = !this.loaded;
    Object.assign(this, { problem: null, loaded: true, hears: true });
    // A chat that is being answered changes every second, mostly in ways that are not shown: the rows are not pulled from under a finger.
    if (!first && shown(before) === shown(this.chats)) return;
    for (const chat of newest) if (before.some(({ id, title }) => id === chat.id && title !== chat.title)) this.renamed(chat);
    this.render();
  }

  #lost() {
    if (!this.hears) return;
    this.hears = false;
    this.refresh();
  }

  /** Read the newest page again; chats of older pages that were loaded stay below it. */
  async refresh() {
    const { api } = this;
    if (!api || (this.hears && this.next !== undefined)) return;
    try {
      const page = await api.chats(null, NEWEST);
      if (api !== this.api) return;
      if (this.hears) this.next = page.nextCursor;
      else this.#take(page);
      Object.assign(this, { problem: null, loaded: true });
    } catch (problem) {
      if (api === this.api && !this.hears) this.problem = problem;
    }
    this.render();
  }

  #take({ chats, nextCursor }) {
    const first = this.chats.length <= chats.length;
    const older = first || !nextCursor ? [] : this.chats.slice(chats.length);
    this.chats = unique([...chats, ...older]);
    if (first || !nextCursor) this.next = nextCursor;
  }

  /** Put a chat that changed to the top. */
  touch(chat) {
    this.chats = unique([chat, ...this.chats]);
    this.render();
  }

  render() {
    const focused = document.activeElement?.closest?.('li')?.dataset.chat;
    this.element.replaceChildren(...this.#content());
    const row = focused && this.element.querySelector(`li[data-chat="${focused}"] a`);
    if (row && document.activeElement === document.body) row.focus();
  }

  #content() {
    if (this.problem && !this.chats.length) return [note(this.problem, button('Try again', () => this.refresh()))];
    if (!this.loaded) return [h('p', { class: 'hint' }, 'Loading …')];
    if (!this.chats.length) return [h('p', { class: 'hint' }, 'Your chats will be listed here.')];
    const lists = [...grouped(this.chats)].flatMap(([name, chats]) => [h('h3', {}, name), h('ul', {}, ...chats.map((chat) => this.#row(chat)))]);
    return this.next ? [...lists, button('Show more', () => this.#more(), { kind: 'quiet center' })] : lists;
  }

  #row(chat) {
    const { app, chat: current } = this.state();
    const title = chat.title || 'New chat';
    const link = h('a', { href: `#/${app}/${chat.id}`, 'aria-current': chat.id === current ? 'page' : null, title }, title);
    const busy = this.running(chat.id) && h('span', { class: 'busy', title: 'Answering', role: 'img', 'aria-label': 'Answering' });
    const rename = iconButton('edit', `Rename “${title}”`, () => this.#rename(chat));
    const remove = iconButton('trash', `Delete “${title}”`, () => this.#remove(chat));
    return h('li', { data: { chat: chat.id } }, link, busy, h('span', { class: 'row-actions' }, rename, remove));
  }

  async #more() {
    try {
      const page = await this.api.chats(this.next);
      this.chats = unique([...this.chats, ...page.chats]);
      this.next = page.nextCursor;
    } catch (problem) {
      notice(brief(problem));
    }
    this.render();
  }

  async #rename(chat) {
    const title = await ask({ title: 'Rename this chat', label: 'Title', value: chat.title, action: 'Rename' });
    if (!title || title === chat.title) return;
    try {
      await this.api.rename(chat.id, title);
      chat.title = title;
      this.renamed(chat);
    } catch (problem) {
      notice(brief(problem));
    }
    this.render();
  }

  /** Give the focus to the chat that took the place of another, or to the button for a new one. */
  #focus(at) {
    const links = [...this.element.querySelectorAll('li a')];
    (links[at] ?? links.at(-1) ?? $('#new-chat')).focus();
  }

  async #remove(chat) {
    const text = `“${chat.title}” and its answers will be gone for good. Your documents stay.`;
    if (!(await confirm({ title: 'Delete this chat?', text, action: 'Delete' }))) return;
    try {
      await this.api.removeChat(chat.id);
    } catch (problem) {
      if (problem.status !== 404) return notice(brief(problem));
    }
    const at = this.chats.findIndex(({ id }) => id === chat.id);
    this.chats = this.chats.filter(({ id }) => id !== chat.id);
    this.gone(chat.id);
    this.render();
    if (document.activeElement === document.body) this.#focus(at);
    notice('The chat was deleted.');
  }
}

function unique(chats) {
  return [...new Map(chats.toReversed().map((chat) => [chat.id, chat])).values()].toReversed();
}

function shown(chats) {
  return JSON.stringify(chats.map(({ id, title, updated }) => [id, title, updated]));
}

function grouped(chats) {
  const groups = new Map();
  for (const chat of chats) groups.set(period(chat), [...(groups.get(period(chat)) ?? []), chat]);
  return groups;
}

function period({ updated }) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const moment = Date.parse(updated);
  if (moment >= midnight) return 'Today';
  if (moment >= midnight - DAY) return 'Yesterday';
  return moment >= midnight - 7 * DAY ? 'This week' : 'Earlier';
}
