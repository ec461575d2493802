// Every attempt on Firestore: who, what, where, and whether it must be allowed.

import { ACTORS, APPS, DATA, GROUPS, OWN, SHARED, UNKNOWN_APP, VICTIM } from "./world.mjs";

const OPERATIONS = ["get", "list", "create", "update", "delete"];
const OWNERS = [
  ["beta", "member"],
  ["delta", "admin"],
];
let fresh = 0;

const attempt = (db, operation, path) => {
  const collection = path.slice(0, path.lastIndexOf("/"));
  switch (operation) {
    case "get":
      return db.doc(path).get();
    case "list":
      return db.collection(collection).limit(1).get();
    case "create":
      return db.doc(`${collection}/new${fresh++}`).set(DATA);
    case "update":
      return db.doc(path).update({ updated: DATA.updated });
    case "delete":
      return db.doc(path).delete();
  }
};

const one = (actor, operation, path, allowed) => ({
  name: `${actor} ${operation} ${path}`,
  actor,
  allowed,
  path,
  run: (db) => attempt(db, operation, path),
});

const below = (app, uid, path) => `apps/${app}/users/${uid}${path && "/"}${path}`;

const may = ({ reads, writes }, operation) => reads.includes(operation) || (writes && !["get", "list"].includes(operation));

// A delete that is allowed takes a document of its own, so that the others stay.
const target = (kind, operation, allowed) => (operation === "delete" && allowed ? kind.path.replace(/[^/]+$/, "gone") : kind.path);

// Who may enter which app, tried where an owner may the most and the least.
function* admissions() {
  for (const app of [...Object.keys(APPS), UNKNOWN_APP]) {
    for (const [actor, { uid, enters }] of Object.entries(ACTORS)) {
      for (const [operation, path] of [["get", ""], ["list", "chats/c1"], ["create", "data/profile"], ["delete", "data/profile"]]) {
        const kind = OWN.find((own) => own.path === path);
        const allowed = enters.includes(app);
        yield one(actor, operation, below(app, uid ?? VICTIM, target(kind, operation, allowed)), allowed);
      }
    }
  }
}

// Everything of a user's, tried by its owner.
function* ofOwners() {
  for (const [app, actor] of OWNERS) {
    for (const kind of OWN) {
      for (const operation of OPERATIONS) {
        const allowed = may(kind, operation);
        yield one(actor, operation, below(app, ACTORS[actor].uid, target(kind, operation, allowed)), allowed);
      }
    }
  }
}

// The same of somebody else's.
function* ofOthers() {
  const strangers = ["nobody", "foreignAdmin", "disabled", "anonymous", "ofOtherTenant"].map((actor) => ["beta", actor]);
  for (const [app, actor] of [...OWNERS, ...strangers]) {
    for (const kind of OWN) {
      for (const operation of OPERATIONS) yield one(actor, operation, below(app, VICTIM, kind.path), false);
    }
  }
}

function* besideUsers() {
  for (const actor of ["nobody", "member", "admin"]) {
    for (const path of SHARED) {
      for (const operation of OPERATIONS) yield one(actor, operation, path.replace("APP", "beta"), false);
    }
  }
}

// A collection group query reaches over all users and apps, whatever it asks for.
function* groups() {
  for (const actor of ["nobody", "member", "admin"]) {
    for (const group of GROUPS) {
      yield { name: `${actor} group ${group}`, actor, allowed: false, run: (db) => db.collectionGroup(group).limit(1).get() };
      const own = (db) => db.collectionGroup(group).where("ownerUid", "==", ACTORS[actor].uid ?? "").get();
      yield { name: `${actor} group ${group} of an owner`, actor, allowed: false, run: own };
    }
  }
}

const put = (why, id, document, allowed) => {
  const path = below("beta", "mia", `data/${id}`);
  return { name: `member puts ${why}`, actor: "member", allowed, path, run: (db) => db.doc(path).set(document) };
};

const update = (why, id, fields, allowed) => {
  const path = below("beta", "mia", `data/${id}`);
  return { name: `member ${why}`, actor: "member", allowed, path, run: (db) => db.doc(path).update(fields) };
};

const keys = (count) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n]));

// What may be written as `data`: what the API could have stored.
function* contents() {
  const of = (data) => ({ ...DATA, data });
  const at = (updated) => ({ ...DATA, updated });
  yield put("an empty map", "a", of({}), true);
  yield put("200 keys", "b", of(keys(200)), true);
  yield put("201 keys", "c", of(keys(201)), false);
  for (const wrong of ["text", 7, true, null, ["a"], new Date()]) {
    yield put(`data that is ${wrong}`, "d", of(wrong), false);
  }
  yield put("microseconds", "e", at("2026-01-31T23:59:59.123456Z"), true);
  for (const wrong of [
    "", "yesterday", "2026-01-31T23:59:59Z", "2026-01-31T23:59:59.1234Z", "2026-01-31T23:59:59.123+01:00", "2026-01-31 23:59:59.123Z",
    "1926-01-31T23:59:59.123Z", "2026-31-31T23:59:59.123Z", " 2026-01-31T23:59:59.123Z", "2026-01-31T23:59:59.123Z\n", 1769904000, null,
    new Date(), ["2026-01-31T23:59:59.123Z"], { at: 1 },
  ]) {
    yield put(`updated as ${JSON.stringify(wrong)}`, "f", at(wrong), false);
  }
  yield put("no data", "g", { updated: DATA.updated }, false);
  yield put("no updated", "h", { data: {} }, false);
  yield put("nothing", "i", {}, false);
  for (const field of ["ownerUid", "appId", "role", "status", "budget", "embedding"]) {
    yield put(`the field ${field}`, "j", { ...DATA, [field]: VICTIM }, false);
  }
  for (const id of ["x", "_", "-", "_x", "0", "A".repeat(64), "_" + "a".repeat(63)]) yield put(`the id ${id}`, id, DATA, true);
  for (const id of ["A".repeat(65), "__", "__x", "a.b", "a b", "a%2Fb", "é", "a~b", "..x"]) yield put(`the id ${id}`, id, DATA, false);
  // An update is seen whole: what is there counts with what is sent.
  yield update("updates one value", "profile", { "data.city": "Biel" }, true);
  yield update("adds a field", "profile", { ownerUid: VICTIM }, false);
  yield update("updates past the limit", "profile", { data: keys(201) }, false);
  // The service's own mark stays as it is, or goes with the whole document.
  yield update("updates what the service wrote", "written", { "data.city": "Biel" }, true);
  yield update("changes the service's mark", "written", { _commit: "mine" }, false);
  yield update("adds a mark", "profile", { _commit: "mine" }, false);
  const marked = (db) => db.doc(below("beta", "mia", `data/new${fresh++}`)).set({ ...DATA, _commit: "mine" });
  yield { name: "member puts a new document with a mark", actor: "member", allowed: false, run: marked };
  yield put("a document over what the service wrote", "overwritten", DATA, true);
}

// Writes that go together go or fail together.
function* together() {
  const own = below("beta", "mia", "data/batch");
  const others = {
    "another's data": below("beta", VICTIM, "data/batch"),
    "another app's data": below("gamma", "mia", "data/batch"),
    "an own chat": below("beta", "mia", "chats/batch"),
    "an own record": below("beta", "mia", ""),
    "a vector": below("beta", "mia", "vectors/batch"),
    "the app": "apps/beta",
  };
  const batch = (paths) => (db) => paths.reduce((writes, path) => writes.set(db.doc(path), DATA), db.batch()).commit();
  const transaction = (read, write) => (db) =>
    db.runTransaction(async (all) => {
      await all.get(db.doc(read));
      all.set(db.doc(write), DATA);
    });
  yield { name: "a batch of own data", actor: "member", allowed: true, run: batch([own, `${own}2`]) };
  yield { name: "a transaction on own data", actor: "member", allowed: true, run: transaction(own, own) };
  for (const [what, path] of Object.entries(others)) {
    yield { name: `a batch with ${what}`, actor: "member", allowed: false, run: batch([own, path]) };
    yield { name: `a batch with ${what} first`, actor: "member", allowed: false, run: batch([path, own]) };
    yield { name: `a transaction that writes ${what}`, actor: "member", allowed: false, run: transaction(own, path) };
  }
  const victim = below("beta", VICTIM, "data/profile");
  yield { name: "a transaction that reads another's data", actor: "member", allowed: false, run: transaction(victim, own) };
}

// What tells the most guards apart comes first.
export const cases = () => [...contents(), ...together(), ...admissions(), ...ofOwners(), ...ofOthers(), ...besideUsers(), ...groups()];
