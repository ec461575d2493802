/** The sidebar's chats: newest first by day, each with its link, its rename and its delete. */

import { ask, confirm, note, notice } from './dialogs.js';
import { $, button, h, iconButton } from './dom.js';
import { brief } from './problems.js';

const DAY = 86_400_000;

export class ChatList {
  /** `state()` tells {app, chat}; `running(id)` whether a chat is answering; `gone(id)` is called when one was deleted. */
  constructor(element, { state, running, gone, renamed }) {
    Object.assign(this, { element, state, running, gone, renamed, api: null, chats: [], next: null, problem: null, loaded: false });
  }

  async open(api) {
    Object.assign(this, { api, chats: [], next: null, problem: null, loaded: false });
    this.render();
    await this.refresh();
  }

  /** Read the newest page again; chats of older pages that were loaded stay below it. */
  async refresh() {
    const { api } = this;
    try {
      const page = await api.chats();
      if (api !== this.api) return;
      const first = this.chats.length <= page.chats.length;
      const older = first || !page.nextCursor ? [] : this.chats.slice(page.chats.length);
      this.chats = unique([...page.chats, ...older]);
      if (first || !page.nextCursor) this.next = page.nextCursor;
      Object.assign(this, { problem: null, loaded: true });
    } catch (problem) {
      if (api === this.api) this.problem = problem;
    }
    this.render();
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
