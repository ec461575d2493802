/** The signed-in page: one app, its chats, its documents and the open chat, kept in step with the address. */

import * as api from './api.js';
import { ChatView } from './chat.js';
import { ChatList } from './chats.js';
import { Composer } from './composer.js';
import { Conversation } from './conversation.js';
import { openDocuments, shortList, tray } from './documents.js';
import { $, button, icon, newId, update } from './dom.js';
import { bindDrawer } from './drawer.js';
import { bindDrop } from './drop.js';
import { emptyState } from './empty.js';
import { kinds } from './kinds.js';
import { Library } from './library.js';
import { showModel } from './model.js';
import * as route from './route.js';
import { remembered, set, state } from './state.js';
import { openUsage } from './usage.js';

class Workspace {
  /** Chats that are open or still answering, by id. */
  #conversations = new Map();

  constructor() {
    this.client = null;
    this.library = null;
    this.drawer = bindDrawer();
    this.composer = new Composer({ form: $('#composer'), input: $('#question'), act: $('#act') }, { send: (text) => this.ask(text), stop: () => this.conversation.stop() });
    this.view = new ChatView({
      scroller: $('#scroller'),
      thread: $('#thread'),
      jump: $('#jump'),
      empty: () => emptyState(this.library, this.pick),
      acts: { again: ({ prompt }) => this.ask(prompt), repeat: (turn) => this.repeat(turn), edit: (turn) => this.edit(turn) },
    });
    this.list = new ChatList($('#chats'), {
      state: () => state,
      running: (id) => Boolean(this.#conversations.get(id)?.running),
      gone: (id) => this.gone(id),
      renamed: (chat) => this.renamed(chat),
    });
    this.bind();
  }

  get conversation() {
    return this.view.conversation;
  }

  bind() {
    this.pick = () => $('#files').click();
    $('#files').addEventListener('change', ({ target }) => {
      this.add([...target.files]);
      target.value = '';
    });
    for (const selector of ['#attach', '#add-document']) $(selector).addEventListener('click', this.pick);
    $('#open-documents').append(icon('file'), 'Documents');
    $('#open-documents').addEventListener('click', () => this.openDocuments());
    $('#usage').addEventListener('click', () => openUsage(this.client));
    $('#new-chat').addEventListener('click', () => this.go(state.app, null));
    $('#apps').addEventListener('change', ({ target }) => this.go(target.value, null));
    bindDrop((files) => this.add(files));
    route.follow((where) => state.user && this.follow(where));
  }

  /** Open what the address names, or what was open last. */
  async open() {
    const { app, chat } = route.read();
    this.client = null;
    $('#user').textContent = $('#user').title = state.user;
    $('#initial').textContent = [...state.user][0].toUpperCase();
    $('#apps').replaceChildren(...state.apps.map(({ id, name }) => new Option(name, id)));
    $('#app-switch').hidden = state.apps.length < 2;
    $('#drop-kinds').textContent = kinds(state.config);
    showModel(state.config);
    await this.openApp(app, chat, { replace: true });
  }

  go(app, chat) {
    route.write({ app, chat });
    this.drawer.close();
    return this.openApp(app, chat);
  }

  /** Go where the person went with the browser's own buttons or with a link; a dialog belongs to where they were. */
  follow({ app, chat }) {
    for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
    return this.openApp(app, chat);
  }

  async openApp(wanted, chat, { replace = false } = {}) {
    const known = state.apps.map(({ id }) => id);
    const app = [wanted, remembered.get('app'), known[0]].find((id) => known.includes(id));
    const there = app === wanted ? chat : null;
    const changed = app !== state.app || !this.client;
    remembered.set('app', app);
    $('#apps').value = app;
    if (changed) this.enterApp(app);
    route.write({ app, chat: there }, { replace });
    if (changed) this.list.open(this.client, state.live?.(app));
    await this.openChat(there);
  }

  enterApp(app) {
    if (this.library) this.library.closed = true;
    this.client = api.client(app);
    this.#conversations.clear();
    set({ app, chat: undefined });
    this.library = new Library(this.client, state.config);
    this.library.addEventListener('change', () => this.showDocuments());
    this.showDocuments();
    this.library.load();
  }

  showDocuments() {
    update($('#documents'), shortList(this.library, () => this.openDocuments()));
    update($('#tray'), tray(this.library));
    this.view.refreshEmpty();
  }

  openDocuments() {
    this.drawer.close();
    openDocuments(this.library, this.pick);
  }

  add(files) {
    this.drawer.close();
    this.library.add(files);
  }

  async openChat(id) {
    if (id && id === state.chat) return;
    set({ chat: id });
    for (const [key, { running }] of this.#conversations) if (!running) this.#conversations.delete(key);
    const kept = this.#conversations.get(id);
    const conversation = kept ?? this.#conversation(id);
    this.view.show(conversation);
    this.composer.open(`${state.app}/${id ?? ''}`);
    this.show();
    this.composer.focus();
    if (id && !kept) await this.view.load((problem) => this.#ways(problem));
    this.show();
  }

  #conversation(id) {
    const conversation = new Conversation(this.client, id ?? newId(), { fresh: !id });
    conversation.addEventListener('chat', ({ detail }) => this.list.touch(detail));
    for (const type of ['turns', 'turn']) conversation.addEventListener(type, () => this.show());
    this.#conversations.set(conversation.id, conversation);
    return conversation;
  }

  #ways({ status }) {
    const fresh = button('Start a new chat', () => this.go(state.app, null), { symbol: 'plus' });
    if (status === 404) return [fresh];
    return [button('Try again', () => this.reopen(), { symbol: 'again' }), fresh];
  }

  reopen() {
    const id = state.chat;
    this.#conversations.delete(id);
    set({ chat: undefined });
    return this.openChat(id);
  }

  async ask(text, id) {
    const { conversation } = this;
    if (conversation.running) return;
    if (conversation.fresh && !state.chat) {
      route.write({ app: state.app, chat: conversation.id });
      set({ chat: conversation.id });
      this.composer.open(`${state.app}/${conversation.id}`);
    }
    this.library.tidy();
    this.view.toEnd();
    await conversation.ask(text, id);
    this.list.render();
  }

  /** Send a refused message again: under its own id if it may have arrived all the same, else as a new one. */
  repeat(turn) {
    if (turn.problem.code === 'network') return this.ask(turn.prompt, turn.id);
    this.conversation.drop(turn);
    return this.ask(turn.prompt);
  }

  edit(turn) {
    this.conversation.drop(turn);
    this.composer.write(turn.prompt);
  }

  /** Show what the open chat is called, and whether it is answering. */
  show() {
    const { conversation } = this;
    const running = Boolean(conversation.running);
    if (running !== this.composer.running) this.list.render();
    this.composer.show({ running, stopping: conversation.stopping });
    const app = state.apps.find(({ id }) => id === state.app);
    const title = conversation.title || 'New chat';
    $('#title').textContent = title;
    document.title = `${conversation.title || app?.name || 'Brainstem'} · Brainstem`;
  }

  renamed({ id, title }) {
    const conversation = this.#conversations.get(id);
    if (conversation) conversation.title = title;
    this.show();
  }

  gone(id) {
    this.#conversations.get(id)?.close();
    this.#conversations.delete(id);
    if (id === state.chat) this.go(state.app, null);
  }

  refresh() {
    this.list.refresh();
  }

  close() {
    for (const conversation of this.#conversations.values()) conversation.close();
    this.#conversations.clear();
    this.library.closed = true;
    route.write({ app: state.app, chat: null }, { replace: true });
    set({ app: null, chat: undefined });
    this.client = null;
    this.clear();
  }

  /** Leave nothing on the page of the person who leaves: the next one may be somebody else. */
  clear() {
    for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
    this.list.close();
    this.composer.forget();
    for (const selector of ['#thread', '#documents', '#tray', '#notices', '#voice', '#banner']) $(selector).replaceChildren();
    for (const selector of ['#user', '#initial', '#title']) $(selector).textContent = '';
    $('#user').title = '';
    document.title = 'Brainstem';
  }
}

export function startWorkspace() {
  return new Workspace();
}
