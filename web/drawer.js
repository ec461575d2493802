/** On a narrow screen the sidebar is a drawer: behind it nothing can be reached, and Esc closes it. */

import { $ } from './dom.js';

export function bindDrawer() {
  const narrow = matchMedia('(max-width: 820px)');
  const sidebar = $('#sidebar');
  const opener = $('#open-sidebar');
  let opened = false;

  const show = () => {
    sidebar.inert = narrow.matches && !opened;
    $('#main').inert = narrow.matches && opened;
    document.body.classList.toggle('drawer-open', narrow.matches && opened);
    opener.setAttribute('aria-expanded', String(opened));
  };
  const open = () => {
    opened = true;
    show();
    $('#close-sidebar').focus();
  };
  const close = () => {
    if (!opened) return;
    opened = false;
    show();
    opener.focus();
  };

  opener.addEventListener('click', open);
  $('#close-sidebar').addEventListener('click', close);
  $('#scrim').addEventListener('click', close);
  sidebar.addEventListener('click', ({ target }) => target.closest('.chats a') && close());
  addEventListener('keydown', ({ key }) => key === 'Escape' && !document.querySelector('dialog[open]') && close());
  narrow.addEventListener('change', show);
  show();
  return { close };
}
