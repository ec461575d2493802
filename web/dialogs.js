/** Dialogs, side sheets and notices. The native dialog keeps the focus inside, closes on Esc and gives the focus back. */

import { $, button, h, icon, iconButton } from './dom.js';
import { describe } from './problems.js';

let names = 0;

function open(kind, title, ...children) {
  const id = `dialog-${++names}`;
  const dialog = h('dialog', { class: kind, 'aria-labelledby': id }, h('h2', { id }, title), ...children);
  dialog.addEventListener('close', () => dialog.remove());
  dialog.addEventListener('mousedown', (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask before something that cannot be undone; resolves to whether the person agreed. */
export function confirm({ title, text, action }) {
  return new Promise((resolve) => {
    let agreed = false;
    const agree = () => {
      agreed = true;
      dialog.close();
    };
    const cancel = button('Cancel', () => dialog.close());
    const dialog = open('dialog', title, h('p', {}, text), h('div', { class: 'row end' }, cancel, button(action, agree, { kind: 'danger' })));
    cancel.focus();
    dialog.addEventListener('close', () => resolve(agreed));
  });
}

/** Ask for one line of text; resolves to it, or to null if the person thought better of it. */
export function ask({ title, label, value, action }) {
  return new Promise((resolve) => {
    let answer = null;
    const input = h('input', { value, maxlength: '200', required: true, 'aria-label': label, autocomplete: 'off' });
    const submit = (event) => {
      event.preventDefault();
      answer = input.value.trim() || null;
      dialog.close();
    };
    const save = h('button', { class: 'button primary' }, action);
    const form = h('form', { on: { submit } }, input, h('div', { class: 'row end' }, button('Cancel', () => dialog.close()), save));
    const dialog = open('dialog', title, form);
    input.select();
    dialog.addEventListener('close', () => resolve(answer));
  });
}

/** Open a dialog with any content and a button that closes it. */
export function show(title, ...children) {
  const dialog = open('dialog wide', title, ...children);
  dialog.prepend(iconButton('close', 'Close', () => dialog.close(), { class: 'corner' }));
  return dialog;
}

/** Open a sheet at the side (from below on a phone); `body` is filled by the caller. */
export function sheet(title) {
  const body = h('div', { class: 'sheet-body', tabindex: '-1' });
  const dialog = open('sheet', title, iconButton('close', 'Close', () => dialog.close(), { class: 'corner' }), body);
  body.focus();
  return { dialog, body };
}

/** A calm message where it belongs: what went wrong, what to do, and the buttons that do it. */
export function note(problem, ...actions) {
  const { title, text, reference } = describe(problem);
  return h(
    'div',
    { class: 'note', role: 'alert', data: { code: problem.code ?? '' } },
    icon('alert'),
    h('div', {}, h('strong', {}, title), text && h('p', {}, text), reference && h('p', { class: 'reference' }, `Reference ${reference}`), actions.length > 0 && h('div', { class: 'row' }, ...actions)),
  );
}

/** Say something in passing, to the eye and to the ear. */
export function notice(text) {
  const toast = h('p', { class: 'toast' }, text);
  $('#notices').append(toast);
  setTimeout(() => toast.remove(), 6000);
}

/** Tell a screen reader what the eye sees anyway. */
export function announce(text) {
  const log = $('#voice');
  if (log.childElementCount > 20) log.firstElementChild.remove();
  if (text) log.append(h('p', {}, text));
}
