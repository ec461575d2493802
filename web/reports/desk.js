/** The signed-in page of reports: the flows that make one, the reports so far, and the form or the report that is open. */

import * as api from '../api.js';
import { announce, note, notice } from '../dialogs.js';
import { $, button, h, icon, newId, update, wait } from '../dom.js';
import { bindDrawer } from '../drawer.js';
import { brief, Problem } from '../problems.js';
import { remembered, set, state } from '../state.js';
import { Form } from './form.js';
import { jobView, RUNNING } from './job.js';
import * as route from './route.js';

const WAIT_SECONDS = 20;
const PAUSE = 1000;
const LONGEST_PAUSE = 15_000;

class Desk {
  #watching = new AbortController();

  constructor() {
    this.drawer = bindDrawer();
    $('#flows').addEventListener('change', ({ target }) => this.go(this.offers[Number(target.value)]));
    $('#new-report').addEventListener('click', () => this.offer && this.go(this.offer));
    route.follow((where) => state.user && this.open(where));
  }

  /** Open what the address names, or the kind of report that was open last. */
  async open(where = route.read()) {
    $('#user').textContent = $('#user').title = state.user;
    $('#initial').textContent = [...state.user][0].toUpperCase();
    this.offers ??= await offers(state.apps);
    showBanner(state.config.model.standIn);
    const last = remembered.get('flow');
    const known = ({ app, flow }) => app.id === where.app && flow.name === where.flow;
    const offer = this.offers.find(known) ?? this.offers.find((each) => keyOf(each) === last) ?? this.offers[0];
    if (!offer) return this.nothing();
    const job = this.offers.some(known) ? where.job : null;
    route.write({ app: offer.app.id, flow: offer.flow.name, job }, { replace: true });
    await this.show(offer, job);
  }

  go(offer, job = null) {
    route.write({ app: offer.app.id, flow: offer.flow.name, job });
    this.drawer.close();
    return this.show(offer, job);
  }

  async show(offer, job) {
    const changed = offer !== this.offer;
    Object.assign(this, { offer, job });
    remembered.set('flow', keyOf(offer));
    this.client = api.client(offer.app.id);
    $('#flow-switch').hidden = this.offers.length < 2;
    $('#flows').replaceChildren(...this.offers.map(({ app, flow }, n) => new Option(flow.description || `${app.name}: ${flow.name}`, String(n))));
    $('#flows').value = String(this.offers.indexOf(offer));
    this.#watching.abort();
    this.#watching = new AbortController();
    if (changed) this.jobs = null;
    this.list();
    if (job) this.follow(job, this.#watching.signal);
    else this.form();
    await this.refresh();
  }

  nothing() {
    $('#new-report').disabled = true;
    $('#sheet').replaceChildren(h('div', { class: 'empty' }, h('h2', {}, 'No app makes reports yet'), h('p', {}, 'A flow with mode = "job" in an app’s app.toml appears here. docs/flows.md tells how.')));
  }

  form() {
    const { flow, app } = this.offer;
    const form = new Form(flow.input);
    const problems = h('div', {});
    const send = h('button', { class: 'button primary', type: 'submit' }, icon('report'), 'Make the report');
    let key = newId();
    const submit = async (event) => {
      event.preventDefault();
      if (send.disabled) return;
      send.disabled = true;
      problems.replaceChildren();
      form.clear();
      try {
        const job = await this.client.runFlow(flow.name, form.value(), key);
        this.jobs = [job, ...(this.jobs ?? []).filter(({ id }) => id !== job.id)];
        await this.go(this.offer, job.id);
      } catch (problem) {
        const others = problem.code === 'invalid_input' ? form.show(problem.problems ?? []) : null;
        if (!others || others.length) problems.replaceChildren(note(problem));
        // What was refused made nothing; what may have arrived is sent under its own key again.
        if (problem.code !== 'network' && !(problem.status >= 500)) key = newId();
      }
      send.disabled = false;
    };
    this.title('New report');
    $('#sheet').replaceChildren(h('form', { class: 'asking', novalidate: true, on: { submit } }, h('p', { class: 'lead' }, flow.description || app.name), ...form.elements, problems, h('div', { class: 'row between' }, send, sources(flow))));
    form.fields.find(({ fields }) => !fields)?.input.focus();
  }

  /** Show a job, and each change of it until it has ended. */
  async follow(id, signal) {
    $('#sheet').replaceChildren(h('p', { class: 'loading' }, 'Loading …'));
    this.title('Report');
    let known = null;
    let pause = PAUSE;
    let said = '';
    while (!signal.aborted) {
      const began = performance.now();
      try {
        const change = await this.client.job(id, known, known ? WAIT_SECONDS : 0, signal);
        if (signal.aborted) return;
        if (change) {
          known = change.known;
          said = this.shown(change.value, said);
          if (!RUNNING.includes(change.value.status)) return;
        }
        pause = PAUSE;
      } catch (problem) {
        if (signal.aborted) return;
        if (!(problem instanceof Problem)) throw problem;
        if (problem.status >= 400 && problem.status < 500) return this.lost(problem, id);
        if (!known) $('#sheet').replaceChildren(note(problem));
        else notice(brief(problem));
        pause = Math.min(2 * pause, LONGEST_PAUSE);
      }
      await wait(Math.max(pause - (performance.now() - began), 0));
    }
  }

  lost(problem, id) {
    $('#sheet').replaceChildren(note(problem, button('Try again', () => this.go(this.offer, id), { symbol: 'again' }), button('New report', () => this.go(this.offer), { symbol: 'plus' })));
  }

  /** Show a job as it is now, and say what is new of it. */
  shown(job, said) {
    const { offer } = this;
    const flow = job.flow === offer.flow.name ? offer.flow : null;
    const acts = {
      again: () => this.act(() => this.client.retryJob(job.id)),
      cancel: () => this.act(() => this.client.cancelJob(job.id)),
      fresh: () => this.go(offer),
    };
    this.title(titleOf(job, offer));
    const ended = !RUNNING.includes(job.status);
    update($('#sheet'), jobView(this.client, flow, job, acts));
    if (ended && document.activeElement === document.body) $('#sheet').focus();
    this.jobs = (this.jobs ?? []).map((each) => (each.id === job.id ? job : each));
    this.list();
    const words = ended ? { COMPLETED: 'The report is done.', FAILED: 'The report could not be made.', CANCELLED: 'Cancelled.' }[job.status] : job.note;
    if (words && words !== said) announce(words);
    return words;
  }

  async act(call) {
    try {
      const job = await call();
      await this.go(this.offer, job.id);
    } catch (problem) {
      notice(brief(problem));
    }
  }

  async refresh() {
    const { client, offer } = this;
    if (!client) return;
    try {
      const { jobs } = await client.jobs(null, 50);
      if (offer !== this.offer) return;
      this.jobs = jobs.filter(({ flow }) => flow === offer.flow.name);
    } catch (problem) {
      this.jobs ??= [];
      if (problem.code !== 'network') notice(brief(problem));
    }
    this.list();
  }

  list() {
    const { jobs, offer, job: open } = this;
    if (!jobs) return update($('#reports'), [h('p', { class: 'hint' }, 'Loading …')]);
    if (!jobs.length) return update($('#reports'), [h('p', { class: 'hint' }, 'Your reports will be listed here.')]);
    const rows = jobs.map((job) => {
      const title = titleOf(job, offer);
      const link = h('a', { href: route.address({ app: offer.app.id, flow: offer.flow.name, job: job.id }), 'aria-current': job.id === open ? 'page' : null, title, data: { focus: job.id } }, title);
      return h('li', { data: { job: job.id, status: job.status } }, link, badge(job.status));
    });
    return update($('#reports'), [h('ul', {}, ...rows)]);
  }

  title(text) {
    $('#title').textContent = text;
    document.title = `${text} · Brainstem`;
  }

  close() {
    this.#watching.abort();
    Object.assign(this, { offers: null, offer: null, client: null, jobs: null, job: null });
    history.replaceState(null, '', location.pathname);
    for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
    for (const selector of ['#sheet', '#reports', '#notices', '#voice', '#banner', '#flows']) $(selector).replaceChildren();
    for (const selector of ['#user', '#initial']) $(selector).textContent = '';
    $('#new-report').disabled = false;
    this.title('Reports');
  }
}

/** The flows of all apps that run as jobs. An app that cannot be asked offers none. */
async function offers(apps) {
  const found = await Promise.all(apps.map(async (app) => (await api.client(app.id).flows()).map((flow) => ({ app, flow }))));
  return found.flat().filter(({ flow }) => flow.mode === 'job');
}

const keyOf = ({ app, flow }) => `${app.id}/${flow.name}`;

function titleOf(job, { flow }) {
  return job.title || `${flow.name}, ${new Date(job.created).toLocaleString()}`;
}

function sources({ sources: names }) {
  return names.length > 0 && h('p', { class: 'hint' }, `Rests on: ${names.join(', ')}`);
}

function badge(status) {
  if (RUNNING.includes(status)) return h('span', { class: 'busy', title: 'Being made', role: 'img', 'aria-label': 'Being made' });
  if (status === 'FAILED') return h('span', { class: 'mark bad', role: 'img', 'aria-label': 'Could not be made', title: 'Could not be made' }, icon('alert'));
  return null;
}

function showBanner(standIn) {
  const words = h('p', {}, h('strong', {}, 'No language model is set.'), ' A stand-in fills reports with the smallest values that their form admits: they show the way, and say nothing.');
  $('#banner').replaceChildren(...(standIn ? [h('aside', { class: 'banner', 'aria-label': 'About the model' }, icon('info'), words)] : []));
}

export function startDesk() {
  return new Desk();
}
