/** The address: `#/app` or `#/app/chat`, so that a reload or a link finds the chat again. */

const ID = /^[A-Za-z0-9_-]{1,64}$/;

export function read() {
  const [app, chat] = location.hash.replace(/^#\/?/, '').split('/');
  return { app: ID.test(app) ? app : null, chat: ID.test(chat ?? '') ? chat : null };
}

/** Show where the page is, without a new history entry if only the form of the address changes. */
export function write({ app, chat }, { replace = false } = {}) {
  const hash = `#/${app}${chat ? `/${chat}` : ''}`;
  if (location.hash === hash) return;
  if (replace) history.replaceState(null, '', hash);
  else history.pushState(null, '', hash);
}

export function follow(listener) {
  addEventListener('popstate', () => listener(read()));
}
