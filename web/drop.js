/** Files dropped or pasted anywhere on the page. */

import { $ } from './dom.js';

const holdsFiles = ({ dataTransfer }) => [...(dataTransfer?.types ?? [])].includes('Files');
const isWorking = () => document.body.dataset.view === 'working';

export function bindDrop(add) {
  let depth = 0;
  const mark = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    $('#drop').classList.toggle('on', depth > 0);
  };
  addEventListener('dragenter', (event) => holdsFiles(event) && isWorking() && mark(1));
  addEventListener('dragleave', (event) => holdsFiles(event) && mark(-1));
  // Also where files are not wanted: the browser would leave the page to show the file.
  addEventListener('dragover', (event) => holdsFiles(event) && event.preventDefault());
  addEventListener('drop', (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    mark(0);
    if (isWorking()) add([...event.dataTransfer.files]);
  });
  addEventListener('paste', ({ clipboardData }) => clipboardData?.files.length && isWorking() && add([...clipboardData.files]));
}
