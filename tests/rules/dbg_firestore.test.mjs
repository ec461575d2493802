// firestore.rules: no guard can be weakened unseen.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { address, clients, open, plant, PROJECT, rulesOf } from "./bench.mjs";
import { cases } from "./cases.mjs";
import { hunt } from "./mutants_dbg.mjs";
import { seeds } from "./world.mjs";

const emulator = address("FIRESTORE_EMULATOR_HOST");
const rules = rulesOf("firestore");
const SEEDS = new Map(seeds());
const RECORDS = [...SEEDS].filter(([path]) => /^apps\/\w+\/users\/[^/]+$/.test(path));
let environment;

async function load(text) {
  const url = `http://${emulator.host}:${emulator.port}/emulator/v1/projects/${PROJECT}:securityRules`;
  const body = JSON.stringify({ rules: { files: [{ name: "firestore.rules", content: text }] } });
  const answer = await fetch(url, { method: "PUT", body });
  assert.equal(answer.status, 200, `${await answer.text()}\n${text}`);
}

before(async () => {
  environment = await open({ firestore: { ...emulator, rules } });
  await environment.clearFirestore();
  await plant(environment, [...SEEDS]);
});
after(async () => {
  await load(rules);
  await environment.cleanup();
});

test("every mutant is told apart", async (t) => {
  const heal = (attempts) => {
    const touched = attempts.filter(({ path }) => SEEDS.has(path)).map(({ path }) => [path, SEEDS.get(path)]);
    return plant(environment, [...RECORDS, ...touched]);
  };
  const every = Number(process.env.EVERY_MUTANT ?? 1);
  const { made, survivors } = await hunt(rules, cases(), clients(environment, "firestore"), { load, heal, every });
  assert.deepEqual(survivors, []);
  t.diagnostic(`mutants ${made} killed ${made - survivors.length}`);
});
