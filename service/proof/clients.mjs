// Makes attempts through Firebase's client SDK, as a page would. Reads from standard input
//   {project, bucket, firestore, storage, tokens: {name: JWT | null}, attempts: [{visitor, operation, path}]}
// and writes one [outcome, content] for each attempt: "denied", "allowed" or, for what is neither, the error's code.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "package.json"));
const { initializeApp } = require("firebase/app");
const firestore = require("firebase/firestore");
const storage = require("firebase/storage");

const AT_ONCE = 16;
const DENIED = new Set(["permission-denied", "storage/unauthorized", "storage/unauthenticated"]);
const DATA = { data: { taken: true }, updated: "2026-01-31T23:59:59.123Z" };
const { project, bucket, firestore: database, storage: files, tokens, attempts } = JSON.parse(readFileSync(0, "utf8"));

firestore.setLogLevel("silent");

const address = (host) => {
  const [name, port] = host.replace(/^https?:\/\//, "").split(":");
  return [name, Number(port)];
};

const clients = new Map(
  Object.entries(tokens).map(([name, token]) => {
    const app = initializeApp({ projectId: project, apiKey: "none", storageBucket: bucket }, name);
    const options = token ? { mockUserToken: token } : {};
    const db = firestore.initializeFirestore(app, {});
    firestore.connectFirestoreEmulator(db, ...address(database), options);
    const blobs = storage.getStorage(app);
    storage.connectStorageEmulator(blobs, ...address(files), options);
    blobs.maxOperationRetryTime = blobs.maxUploadRetryTime = 2000;
    return [name, { db, blobs }];
  }),
);

const rows = (found) => found.docs.map((each) => [each.ref.path, each.data()]);

const operations = {
  get: async ({ db }, path) => (await firestore.getDocFromServer(firestore.doc(db, path))).data() ?? null,
  list: async ({ db }, path) => rows(await firestore.getDocsFromServer(firestore.collection(db, path))),
  group: async ({ db }, name) => rows(await firestore.getDocsFromServer(firestore.collectionGroup(db, name))),
  write: ({ db }, path) => firestore.setDoc(firestore.doc(db, path), DATA),
  promote: ({ db }, path) => firestore.setDoc(firestore.doc(db, path), { role: "admin", updated: DATA.updated }),
  update: ({ db }, path) => firestore.updateDoc(firestore.doc(db, path), { taken: true }),
  delete: ({ db }, path) => firestore.deleteDoc(firestore.doc(db, path)),
  batch: ({ db }, paths) => {
    const [own, other] = paths.split(" ");
    return firestore.writeBatch(db).set(firestore.doc(db, own), DATA).set(firestore.doc(db, other), DATA).commit();
  },
  download: async ({ blobs }, path) => Buffer.from(await storage.getBytes(storage.ref(blobs, path))).toString("latin1"),
  "list files": async ({ blobs }, path) => (await storage.listAll(storage.ref(blobs, path))).items.map(String),
  upload: ({ blobs }, path) =>
    storage.uploadBytes(storage.ref(blobs, path), Buffer.from("Stolen."), { contentType: "text/plain" }).then(() => null),
  "remove file": ({ blobs }, path) => storage.deleteObject(storage.ref(blobs, path)),
};

async function outcome({ visitor, operation, path }) {
  try {
    return ["allowed", (await operations[operation](clients.get(visitor), path)) ?? null];
  } catch (error) {
    return [DENIED.has(error.code) ? "denied" : error.code ?? String(error), null];
  }
}

const outcomes = new Array(attempts.length);
let next = 0;
await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    while (next < attempts.length) {
      const n = next++;
      outcomes[n] = await outcome(attempts[n]);
    }
  }),
);
process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
