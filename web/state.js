/** What the whole page shares: who is signed in, which app and chat are open. Changed by `set` alone, which tells the watchers.
 *
 * `live(app)`, where chats can be heard of as they change, gives what listens to those of the user.
 */

const watchers = [];

export const state = {
  config: null,
  user: null,
  live: null,
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

/** What this browser remembers between visits, and what one tab remembers until it is closed. */
export const remembered = memory(() => localStorage);
export const tab = memory(() => sessionStorage);

/** Where storage is forbidden, as in some private windows, everything works but the remembering. */
function memory(storage) {
  return {
    get(key) {
      try {
        return storage().getItem(`brainstem.${key}`);
      } catch {
        return null;
      }
    },
    set(key, value) {
      try {
        storage().setItem(`brainstem.${key}`, value);
      } catch {
        // Not remembered.
      }
    },
  };
}
