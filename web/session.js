/** Who is here: read the configuration, sign in, and open the page for whoever came, until they leave. */

import * as api from './api.js';
import { note } from './dialogs.js';
import { $, button } from './dom.js';
import { LocalDoor } from './door.js';
import { offline, Problem } from './problems.js';
import { set, state } from './state.js';

/** How people sign in, by what the server says of it; the Firebase SDK is loaded only where it is needed. */
const DOORS = {
  local: async (calls) => new LocalDoor(calls),
  firebase: async (calls) => (await import('./firebase/door.js').catch(() => Promise.reject(offline()))).open(calls),
};

let door = null;
let workspace = null;
let make = null;

/** Begin; `startWorkspace` makes what the page does for somebody: `open()`, `close()` and `refresh()`. */
export function begin(startWorkspace) {
  make = startWorkspace;
  $('#sign-out').addEventListener('click', signOut);
  addEventListener('visibilitychange', () => !document.hidden && state.user && workspace?.refresh());
  return start();
}

function view(name) {
  document.body.dataset.view = name;
}

async function start() {
  view('starting');
  let identity = null;
  try {
    set({ config: await api.config() });
    door ??= await find(state.config);
    identity = await door.restored();
    if (identity) await enter(identity);
    else ask();
  } catch (problem) {
    failed(problem, identity);
  }
}

async function find(config) {
  const open = DOORS[config.signIn];
  if (!open || (config.signIn === 'firebase' && !config.firebase)) throw new Problem({ code: 'sign_in' });
  return open({ config, enter, ended, changed });
}

/** Open the workspace for somebody; throws what the server refuses. */
async function enter(identity) {
  api.actAs(identity);
  const apps = await api.apps();
  if (!apps.length) throw new Problem({ code: 'no_apps' });
  set({ user: identity.name, live: identity.live ?? null, apps });
  workspace ??= make();
  view('working');
  await workspace.open();
}

function failed(problem, identity) {
  view('starting');
  const another = identity && button('Sign in as somebody else', signOut, { symbol: 'leave' });
  $('#starting-text').replaceChildren(note(problem, button('Try again', start, { kind: 'primary', symbol: 'again' }), ...(another ? [another] : [])));
}

function ask(why) {
  view('signing-in');
  door.ask(why);
}

/** Forget who is signed in, and all that the page shows of them. */
function shut() {
  if (state.user) workspace.close();
  api.actAs(null);
  set({ user: null, live: null, apps: [] });
}

async function signOut() {
  shut();
  await door.leave();
  ask();
}

/** A sign-in ended without this page's doing. */
function ended(why) {
  shut();
  ask(why);
}

/** Somebody else signed in, in another tab of this browser: all tabs are theirs from then on. */
async function changed(identity) {
  shut();
  try {
    await enter(identity);
  } catch (problem) {
    failed(problem, identity);
  }
}
