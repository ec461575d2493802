/** Dark or light: the system's choice, until the person makes one of their own. */

import { icon } from './dom.js';
import { remembered } from './state.js';

const system = matchMedia('(prefers-color-scheme: dark)');

const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';

export function bindTheme(toggle) {
  const show = () => {
    const label = `Switch to the ${isDark() ? 'light' : 'dark'} theme`;
    toggle.setAttribute('aria-label', label);
    toggle.title = label;
    toggle.replaceChildren(icon(isDark() ? 'sun' : 'moon'));
  };
  toggle.addEventListener('click', () => {
    const theme = isDark() ? 'light' : 'dark';
    document.documentElement.dataset.theme = theme;
    remembered.set('theme', theme);
    show();
  });
  system.addEventListener('change', show);
  show();
}
