// storage.rules: every place, operation and actor.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { address, clients, failures, mixed, open, place, rulesOf } from "./bench.mjs";
import { cases, OBJECTS } from "./storage.cases.mjs";

let environment;

before(async () => {
  environment = await open({ storage: { ...address("FIREBASE_STORAGE_EMULATOR_HOST"), rules: rulesOf("storage") } });
  await environment.clearStorage();
  await place(environment, OBJECTS);
});
after(() => environment.cleanup());

test("each attempt is allowed or denied as the table says", async (t) => {
  const all = cases();
  const found = await failures(mixed(all), clients(environment, "storage"));
  assert.deepEqual(found.map(({ why }) => why), []);
  t.diagnostic(`assertions ${all.length} allowed ${all.filter(({ allowed }) => allowed).length}`);
});
