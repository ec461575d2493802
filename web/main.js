/** The page's beginning: read the configuration, sign in, open an app, and connect the parts to each other. */

import * as api from './api.js';
import { note } from './dialogs.js';
import { $, button, icon } from './dom.js';
import { Problem } from './problems.js';
import { remembered, set, state } from './state.js';
import { bindTheme } from './theme.js';
import { startWorkspace } from './workspace.js';

const SYMBOLS = { '#add-document': 'plus', '#attach': 'clip', '#usage': 'chart', '#sign-out': 'leave', '#open-sidebar': 'menu', '#close-sidebar': 'close', '#jump': 'down' };

let workspace = null;

function view(name) {
  document.body.dataset.view = name;
}

async function start() {
  view('starting');
  try {
    set({ config: await api.config() });
    if (state.config.signIn !== 'local') throw new Problem({ code: 'sign_in' });
    const user = remembered.get('user');
    if (user) await enter(user);
    else askName();
  } catch (problem) {
    failed(problem, start);
  }
}

/** Sign in and open the workspace; throws what either refuses. */
async function enter(user) {
  await api.signIn(user, () => askName('Your sign-in has ended. Sign in again to go on.'));
  const apps = await api.apps();
  if (!apps.length) throw new Problem({ code: 'no_apps' });
  set({ user, apps });
  remembered.set('user', user);
  workspace ??= startWorkspace();
  view('working');
  await workspace.open();
}

function failed(problem, again) {
  view('starting');
  $('#starting-text').replaceChildren(note(problem, button('Try again', again, { kind: 'primary', symbol: 'again' })));
}

function askName(why = '') {
  view('signing-in');
  $('#name').value = remembered.get('user') ?? '';
  $('#sign-in-problem').textContent = why;
  $('#name').focus();
}

async function submitName(event) {
  event.preventDefault();
  const name = $('#name').value.trim();
  if (!name) return;
  $('#sign-in-problem').replaceChildren();
  try {
    await enter(name);
  } catch (problem) {
    view('signing-in');
    $('#sign-in-problem').replaceChildren(note(problem));
  }
}

function signOut() {
  workspace.close();
  api.signOut();
  set({ user: null });
  askName();
}

for (const [selector, symbol] of Object.entries(SYMBOLS)) $(selector).append(icon(symbol));
$('#new-chat').prepend(icon('plus'));
$('#sign-in').addEventListener('submit', submitName);
$('#sign-out').addEventListener('click', signOut);
// The address belongs to the chat, so this link must not change it.
$('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  $('#question').focus();
});
bindTheme($('#theme'));
addEventListener('visibilitychange', () => !document.hidden && state.user && workspace?.refresh());
start();
