/** What the whole page shares: who is signed in, which app and chat are open. Changed by `set` alone, which tells the watchers. */

const watchers = [];

export const state = {
  config: null,
  user: null,
  apps: [],
  app: null,
  chat: null,
};

export function set(changes) {
  const changed = Object.keys(changes).filter((key) => state[key] !== changes[key]);
  Object.assign(state, changes);
  for (const { keys, watcher } of watchers) if (keys.some((key) => changed.includes(key))) watcher(state);
}

export function watch(keys, watcher) {
  watchers.push({ keys, watcher });
}

/** Something this browser remembers between visits; private windows may refuse, which costs only the memory. */
export const remembered = {
  get(key) {
    try {
      return localStorage.getItem(`brainstem.${key}`);
    } catch {
      return null;
    }
  },
  set(key, value) {
    try {
      if (value == null) localStorage.removeItem(`brainstem.${key}`);
      else localStorage.setItem(`brainstem.${key}`, value);
    } catch {
      // Nothing to do: the page works without a memory.
    }
  },
};
