// Every attempt on Cloud Storage: who, what, where, and whether it must be allowed.

import { ACTORS, APPS, UNKNOWN_APP, VICTIM } from "./world.mjs";

const LIMIT = 25_000_000;
const READ = [
  "text/plain", "text/markdown", "text/x-markdown", "text/html", "application/xhtml+xml", "text/csv", "application/csv",
  "text/tab-separated-values", "application/pdf", "application/x-pdf",
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
];
const UNREAD = ["application/octet-stream", "image/png", "application/zip", "application/javascript", "text/plainx", "TEXT/PLAIN", "text/", ""];
const OPERATIONS = ["get", "list", "create", "overwrite", "update", "delete"];
const RUN = Date.now().toString(36); // objects of an earlier run may still be there
let fresh = 0;

// What is not there was not denied.
const orMissing = (promise) =>
  promise.catch((error) => {
    if (error.code !== "storage/object-not-found") throw error;
  });

const upload = (storage, path, size = 3, contentType = "text/plain") => storage.ref(path).put(new Uint8Array(size), { contentType });

const attempt = (storage, operation, path) => {
  const folder = path.slice(0, path.lastIndexOf("/"));
  switch (operation) {
    case "get":
      return orMissing(storage.ref(path).getMetadata());
    case "list":
      return storage.ref(folder).listAll();
    case "create":
      return upload(storage, `${folder}/new${RUN}${fresh++}.txt`);
    case "overwrite":
      return upload(storage, path);
    case "update":
      return orMissing(storage.ref(path).updateMetadata({ contentType: "text/markdown" }));
    case "delete":
      return orMissing(storage.ref(path).delete());
  }
};

const one = (actor, operation, path, allowed) => ({
  name: `${actor} ${operation} ${path}`,
  actor,
  allowed,
  path,
  run: (storage) => attempt(storage, operation, path),
});

const below = (app, uid, path) => `apps/${app}/users/${uid}/${path}`;

// Objects that are there: the service's own, and uploads that wait.
export const OBJECTS = [
  below("beta", "mia", "uploads/there.txt"),
  below("beta", VICTIM, "uploads/there.txt"),
  below("beta", "mia", "uploads/deep/there.txt"),
  below("beta", "mia", "documents/d1/original"),
  below("beta", "mia", "data/there.txt"),
  "apps/beta/shared/knowledge/documents/d1/original",
  "apps/beta/uploads/there.txt",
  "uploads/there.txt",
  "users/mia/uploads/there.txt",
];

// An app whose membership is by record takes no uploads but through the API.
function* admissions() {
  for (const app of [...Object.keys(APPS), UNKNOWN_APP]) {
    for (const [actor, { uid, enters }] of Object.entries(ACTORS)) {
      for (const operation of ["get", "create", "delete"]) {
        yield one(actor, operation, below(app, uid ?? VICTIM, "uploads/missing.txt"), enters.includes(app) && app !== "delta");
      }
    }
  }
}

function* places() {
  for (const path of OBJECTS) {
    for (const operation of OPERATIONS) {
      const own = path === OBJECTS[0];
      if (own && operation === "delete") continue; // it stays, and another one was deleted above
      yield one("member", operation, path, own && ["get", "create"].includes(operation));
    }
  }
  for (const actor of ["nobody", "admin", "foreignAdmin", "disabled", "anonymous", "ofOtherTenant"]) {
    for (const path of OBJECTS) {
      for (const operation of OPERATIONS) yield one(actor, operation, path, false);
    }
  }
}

const put = (why, allowed, size, contentType) => ({
  name: `member uploads ${why}`,
  actor: "member",
  allowed,
  run: (storage) => upload(storage, below("beta", "mia", `uploads/new${RUN}${fresh++}`), size, contentType),
});

// A file as ingestion reads it, under any name.
function* contents() {
  for (const type of READ) yield put(type, true, 3, type);
  for (const type of UNREAD) yield put(type || "no type", false, 3, type);
  yield put("an empty file", true, 0);
  for (const name of ["My notes.txt", "Übersicht.pdf", "a%2Fb.txt", "a#b?.txt", "日本.txt"]) {
    const run = (storage) => upload(storage, below("beta", "mia", `uploads/${RUN}${fresh++} ${name}`));
    yield { name: `member uploads ${name}`, actor: "member", allowed: true, run };
  }
  for (const name of ["a\u0001b", "a\nb", "a\u007f", "a\u0085"]) {
    const run = (storage) => upload(storage, below("beta", "mia", `uploads/${RUN}${fresh++} ${name}`));
    yield { name: `member uploads ${JSON.stringify(name)}`, actor: "member", allowed: false, run };
  }
}

function* sizes() {
  yield put("the largest file", true, LIMIT);
  yield put("one byte more", false, LIMIT + 1);
}

export const cases = () => [...contents(), ...admissions(), ...places(), ...sizes()];
