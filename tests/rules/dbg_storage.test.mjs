// storage.rules: no guard can be weakened unseen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { address, clients, open, place, rulesOf } from "./bench.mjs";
import { hunt } from "./mutants_dbg.mjs";
import { cases, OBJECTS } from "./storage.cases.mjs";

const emulator = address("FIREBASE_STORAGE_EMULATOR_HOST");
const rules = rulesOf("storage");
let environment;

async function load(text) {
  const body = JSON.stringify({ rules: { files: [{ name: "storage.rules", content: text }] } });
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`http://${emulator.host}:${emulator.port}/internal/setRules`, { method: "PUT", body, headers });
  assert.equal(answer.status, 200, `${await answer.text()}\n${text}`);
}

before(async () => {
  environment = await open({ storage: { ...emulator, rules } });
  await environment.clearStorage();
  await place(environment, OBJECTS);
});
after(async () => {
  await load(rules);
  await environment.cleanup();
});

test("every mutant is told apart", async (t) => {
  const heal = (attempts) => place(environment, OBJECTS.filter((path) => attempts.some((attempt) => attempt.path === path)));
  const every = Number(process.env.EVERY_MUTANT ?? 1);
  const { made, survivors } = await hunt(rules, cases(), clients(environment, "storage"), { load, heal, every });
  assert.deepEqual(survivors, []);
  t.diagnostic(`mutants ${made} killed ${made - survivors.length}`);
});
