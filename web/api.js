/** The HTTP API: one function per call. Every failure is a `Problem`; a spent token is renewed once, silently. */

import { offline, Problem } from './problems.js';
import { events } from './sse.js';

/** Who asks: `headers()` gives what proves it, `renew()` says whether a refused proof could be replaced by a fresh one. */
let identity = null;

/** Act as somebody from now on, or with null as nobody. */
export function actAs(someone) {
  identity = someone;
}

function asking() {
  if (!identity) throw new Problem({ code: 'invalid_token', status: 401 });
  return identity;
}

/** A token for any name; only a local server gives one. */
export const localToken = async (user) => (await json(await send('/local/sign-in', body('POST', { user })))).token;

export const config = async () => json(await send('/config.json', { cache: 'no-cache' }));
export const apps = async () => (await call('GET', '/v1/apps')).apps;

/** The calls of one app. */
export function client(app) {
  const root = `/v1/apps/${encodeURIComponent(app)}`;
  const at = (...segments) => [root, ...segments.map(encodeURIComponent)].join('/');
  return {
    chats: (cursor, limit = 30) => call('GET', at('chats') + query({ limit, cursor })),
    chat: (id, cursor, limit = 30) => call('GET', at('chats', id) + query({ limit, cursor })),
    rename: (id, title) => call('PATCH', at('chats', id), { title }),
    removeChat: (id) => call('DELETE', at('chats', id)),
    ask: (id, message, signal) => ask(at('chats', id, 'messages'), message, signal),
    documents: (cursor, limit = 30) => call('GET', at('documents') + query({ limit, cursor })),
    document: (id) => call('GET', at('documents', id)),
    removeDocument: (id) => call('DELETE', at('documents', id)),
    original: (id) => call('GET', at('documents', id, 'original')),
    upload: (file, progress) => upload(at('documents'), file, progress),
    flows: async () => (await call('GET', at('flows'))).flows,
    runFlow: (name, input, key) => call('POST', at('flows', name), input, { 'Idempotency-Key': key }),
    jobs: (cursor, limit = 30) => call('GET', at('jobs') + query({ limit, cursor })),
    job: (id, known, seconds, signal) => changed(at('jobs', id), known, seconds, signal),
    cancelJob: (id) => call('POST', at('jobs', id, 'cancel')),
    retryJob: (id) => call('POST', at('jobs', id, 'retry')),
    artifact: (id, name) => call('GET', at('jobs', id, 'artifact') + query({ name })),
    usage: (days) => call('GET', at('usage') + query({ days })),
  };
}

/** Send a message and yield {event, data} with parsed data; a refusal before the stream is thrown as its `Problem`. */
async function* ask(path, message, signal) {
  const options = { ...body('POST', message), signal };
  options.headers.Accept = 'text/event-stream';
  const response = await authorised(path, options);
  if (!response.headers.get('Content-Type')?.startsWith('text/event-stream')) throw await problem(response);
  for await (const { event, data } of events(response.body)) yield { event, data: JSON.parse(data) };
}

async function call(method, path, content, headers = {}) {
  const options = body(method, content);
  return json(await authorised(path, { ...options, headers: { ...options.headers, ...headers } }));
}

/** Read something that changes: {value, known}, or null if it is still as `known` after `seconds` of waiting at the server. */
async function changed(path, known, seconds, signal) {
  const headers = { ...(known && { 'If-None-Match': known }), ...(seconds && { Prefer: `wait=${seconds}` }) };
  const response = await authorised(path, { method: 'GET', headers, signal, cache: 'no-store' });
  if (response.status === 304) return null;
  return { value: await json(response), known: response.headers.get('ETag') };
}

async function authorised(path, options) {
  const asker = asking();
  let response = await send(path, await proven(asker, options));
  if (response.status === 401 && (await asker.renew())) response = await send(path, await proven(asker, options));
  if (!response.ok && response.status !== 304) throw await problem(response);
  return response;
}

async function send(path, options) {
  try {
    return await fetch(path, { ...options, credentials: 'omit', redirect: 'error' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw offline();
  }
}

async function json(response) {
  if (!response.ok) throw await problem(response);
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch {
    throw offline();
  }
}

async function problem(response) {
  const fields = await response.json().catch(() => ({}));
  const after = Number(response.headers.get('Retry-After')) || null;
  return new Problem({ ...fields, status: response.status, retryAfter: after });
}

function body(method, content) {
  if (content === undefined) return { method, headers: {} };
  return { method, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(content) };
}

async function proven(asker, options) {
  return { ...options, headers: { ...options.headers, ...(await asker.headers()) } };
}

function query(values) {
  const given = Object.entries(values).filter(([, value]) => value != null);
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

/** Send a file; fetch cannot tell how much of it has left, so this one call uses XMLHttpRequest. */
async function upload(path, file, progress, renewed = false) {
  const asker = asking();
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append('file', file, file.name);
  request.open('POST', path);
  for (const [name, value] of Object.entries(await asker.headers())) request.setRequestHeader(name, value);
  request.upload.addEventListener('progress', (event) => event.lengthComputable && progress(event.loaded / event.total));
  await new Promise((resolve) => {
    request.addEventListener('loadend', resolve);
    request.send(form);
  });
  if (request.status === 401 && !renewed && (await asker.renew())) return upload(path, file, progress, true);
  return uploaded(request);
}

function uploaded(request) {
  if (request.status === 0) throw offline();
  let fields = {};
  try {
    fields = JSON.parse(request.responseText);
  } catch {
    // A body that is no JSON tells nothing beyond its status.
  }
  if (request.status >= 400) throw new Problem({ ...fields, status: request.status });
  return { document: fields, known: request.status === 200 };
}
