/** The beginning of the page of reports: its symbols, its theme, and whoever is here. */

import { $, icon } from '../dom.js';
import { begin } from '../session.js';
import { bindTheme } from '../theme.js';
import { startDesk } from './desk.js';

const SYMBOLS = { '#chats': 'chat', '#sign-out': 'leave', '#open-sidebar': 'menu', '#close-sidebar': 'close' };

for (const [selector, symbol] of Object.entries(SYMBOLS)) $(selector).append(icon(symbol));
$('#new-report').prepend(icon('plus'));
// The address belongs to the report, so this link must not change it.
$('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  $('#sheet').focus();
});
bindTheme($('#theme'));
begin(startDesk);
