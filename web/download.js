/** Buttons that download a file; its signed address lives for minutes, so it is asked for at the click. */

import { button, h } from './dom.js';
import { describe } from './problems.js';

/** `find` asks for {url}; `gone` is said of a file that is not there any more. */
export function downloadButton(find, { label, kind = '', gone }) {
  const fetchIt = async () => {
    link.disabled = true;
    try {
      const { url } = await find();
      follow(url);
    } catch (problem) {
      status.textContent = problem.status === 404 ? gone : describe(problem).title;
    }
    link.disabled = false;
  };
  const link = button(label, fetchIt, { symbol: 'download', kind });
  const status = h('span', { class: 'hint', role: 'status' });
  return h('span', { class: 'row' }, link, status);
}

function follow(url) {
  const target = new URL(url, location.href);
  if (!['http:', 'https:'].includes(target.protocol)) return;
  h('a', { href: target.href, target: '_blank', rel: 'noopener noreferrer', download: '' }).click();
}
