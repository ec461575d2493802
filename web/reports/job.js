/** One job on the screen: how far it is while it runs, what came of it when it has ended. */

import { note } from '../dialogs.js';
import { button, h, icon } from '../dom.js';
import { downloadButton } from '../download.js';
import { size } from '../documents.js';
import { sections } from './value.js';

export const RUNNING = ['PENDING', 'PROCESSING'];
const STAND_IN = /stand-in/;

/** The elements that show a job; `flow` may be one that is not declared any more. */
export function jobView(client, flow, job, acts) {
  if (RUNNING.includes(job.status)) return [underWay(job, acts)];
  if (job.status === 'CANCELLED') return [h('div', { class: 'stopped' }, 'This was cancelled. Nothing came of it.', again(acts))];
  if (job.status === 'FAILED') return [note({ code: job.code, title: job.error, detail: job.error }, again(acts), button('New report', acts.fresh, { symbol: 'plus' }))];
  return finished(client, flow, job);
}

function again(acts) {
  return button('Try again', acts.again, { symbol: 'again', data: { focus: 'again' } });
}

function underWay({ status, done, total, note: told }, acts) {
  const words = status === 'PENDING' ? 'Waiting for its turn' : told || 'Beginning';
  const bar = h('progress', { 'aria-label': 'How far the report is', max: total || null, value: total ? done : null });
  const step = total > 0 && h('span', { class: 'hint' }, `Step ${Math.min(done + 1, total)} of ${total}`);
  const cancel = button('Cancel', acts.cancel, { data: { focus: 'cancel' } });
  return h('div', { class: 'under-way', data: { key: 'under-way' } }, h('div', { class: 'row between' }, h('p', { class: 'now' }, `${words} …`), step), bar, h('p', { class: 'hint' }, 'You may leave this page: the report is made all the same, and you find it here.'), h('div', { class: 'row' }, cancel));
}

function finished(client, flow, job) {
  const told = job.note && h('p', { class: 'facts' }, `${job.note} · ${new Date(job.ended).toLocaleString()}`);
  const honest = STAND_IN.test(job.note) && h('aside', { class: 'banner', 'aria-label': 'About this report' }, icon('info'), h('p', {}, h('strong', {}, 'No model wrote this.'), ' It holds the smallest values that its form admits, put there by a stand-in, and says nothing about what you asked for.'));
  const value = job.output && typeof job.output === 'object' ? sections(flow?.output ?? {}, flow?.output ?? {}, job.output) : [];
  return [honest, told, files(client, job), h('div', { class: 'report' }, ...value)].filter(Boolean);
}

function files(client, { id, artifacts }) {
  if (!artifacts.length) return null;
  const one = ({ name, bytes }) => downloadButton(() => client.artifact(id, name), { label: `${ending(name)}, ${size(bytes)}`, gone: 'This file is no longer here.' });
  return h('div', { class: 'row files', role: 'group', 'aria-label': 'Download the report' }, ...artifacts.map(one));
}

function ending(name) {
  return `Download ${(/\.([A-Za-z0-9]+)$/.exec(name)?.[1] ?? name).toUpperCase()}`;
}
