/** A user's newest chats as Firestore tells of them: all as they are, and again at every change. The rules let nobody read another's. */

import { collection, connectFirestoreEmulator, initializeFirestore, limit, memoryLocalCache, onSnapshot, orderBy, query, terminate } from '../vendor/firebase-firestore.js';

/** While the SDK makes sure of a document that left the list, it tells what it has as of its cache, too; only what stays so is a
 * connection that was lost. */
const PATIENCE = 3000;

/** The database of a Firebase app; nothing of it is kept in the browser. */
export class Database {
  #opened;

  constructor(app, { database, emulators }) {
    this.#opened = initializeFirestore(app, { localCache: memoryLocalCache() }, database);
    if (emulators?.firestore) connectFirestoreEmulator(this.#opened, ...hostAndPort(emulators.firestore));
  }

  /** Tell `changed` the newest `count` chats whenever they change, and `lost` when Firestore cannot be heard. Returns what ends it. */
  listen({ app, user }, count, { changed, lost }) {
    const chats = collection(this.#opened, 'apps', encode(app), 'users', encode(user), 'chats');
    const newest = query(chats, orderBy('updated', 'desc'), limit(count));
    let silence = null;
    const hear = ({ docs, metadata }) => {
      clearTimeout(silence);
      if (metadata.fromCache) silence = setTimeout(lost, PATIENCE);
      else changed(docs.map((doc) => chat(doc.data())));
    };
    const stop = onSnapshot(newest, { includeMetadataChanges: true }, hear, lost);
    return () => {
      clearTimeout(silence);
      stop();
    };
  }

  close() {
    return terminate(this.#opened);
  }
}

function chat({ id, title, created, updated, turns }) {
  return { id, title, created, updated, turnCount: turns };
}

/** An id as a segment of a path, encoded as the server encodes it. */
function encode(id) {
  const encoded = encodeURIComponent(id).replace(/[.!~*'()]/g, (mark) => `%${mark.charCodeAt(0).toString(16).toUpperCase()}`);
  return encoded.startsWith('__') ? `%5F${encoded.slice(1)}` : encoded;
}

function hostAndPort(address) {
  const at = address.lastIndexOf(':');
  return [address.slice(0, at), Number(address.slice(at + 1))];
}
