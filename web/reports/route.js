/** The address: `#/app/flow` or `#/app/flow/job`, so that a reload or a link finds the report again. */

const PART = /^[A-Za-z0-9_-]{1,64}$/;

export function read() {
  const [app, flow, job] = location.hash.replace(/^#\/?/, '').split('/').map((part) => (PART.test(part) ? part : null));
  return { app: app ?? null, flow: flow ?? null, job: job ?? null };
}

/** Show where the page is, without a new history entry if only the form of the address changes. */
export function write(where, { replace = false } = {}) {
  const hash = address(where);
  if (location.hash === hash) return;
  if (replace) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
}

export function address({ app, flow, job }) {
  return `#/${[app, flow, job].filter(Boolean).join('/')}`;
}

export function follow(listener) {
  addEventListener('popstate', () => listener(read()));
}
