/** The page's beginning: its symbols, its theme, and whoever is here. */

import { $, icon } from './dom.js';
import { begin } from './session.js';
import { bindTheme } from './theme.js';
import { startWorkspace } from './workspace.js';

const SYMBOLS = { '#add-document': 'plus', '#attach': 'clip', '#reports': 'report', '#usage': 'chart', '#sign-out': 'leave', '#open-sidebar': 'menu', '#close-sidebar': 'close', '#jump': 'down' };

for (const [selector, symbol] of Object.entries(SYMBOLS)) $(selector).append(icon(symbol));
$('#new-chat').prepend(icon('plus'));
// The address belongs to the chat, so this link must not change it.
$('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  $('#question').focus();
});
bindTheme($('#theme'));
begin(startWorkspace);
