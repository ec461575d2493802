// firestore.rules: every collection, operation and actor.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { address, clients, failures, mixed, open, plant, PROJECT, rulesOf } from "./bench.mjs";
import { cases } from "./cases.mjs";
import { seeds } from "./world.mjs";

const emulator = address("FIRESTORE_EMULATOR_HOST");
const rules = rulesOf("firestore");
const CONDITION = /[=!<&|]=?[=&|]?\s| in | is |(matches|hasOnly|admitted|role|plain|wellFormed)\(/;
let environment;

before(async () => {
  environment = await open({ firestore: { ...emulator, rules } });
  await environment.clearFirestore();
  await plant(environment, [...seeds()]);
});
after(() => environment.cleanup());

test("each attempt is allowed or denied as the table says", async (t) => {
  const all = cases();
  const found = await failures(mixed(all), clients(environment, "firestore"));
  assert.deepEqual(found.map(({ why }) => why), []);
  t.diagnostic(`assertions ${all.length} allowed ${all.filter(({ allowed }) => allowed).length}`);
});

test("every expression was evaluated, and every condition both held and did not", async (t) => {
  const { host, port } = emulator;
  const answer = await fetch(`http://${host}:${port}/emulator/v1/projects/${PROJECT}:ruleCoverage`);
  const { report } = await answer.json();
  const expressions = [];
  const walk = (node) => {
    expressions.push(node);
    (node.children ?? []).forEach(walk);
  };
  report.forEach(walk);
  const text = ({ sourcePosition: { currentOffset, endOffset, line } }) => `${line}: ${rules.slice(currentOffset, endOffset + 1)}`;
  const seen = ({ values = [] }) => values.flatMap(({ value }) => (value && "boolValue" in value ? value.boolValue : []));
  const conditions = expressions.filter((node) => seen(node).length && CONDITION.test(text(node)));
  assert.deepEqual(expressions.filter(({ values }) => !values?.some(({ count }) => count > 0)).map(text), []);
  assert.deepEqual(conditions.filter((node) => new Set(seen(node)).size < 2).map(text), []);
  assert.ok(expressions.length > 60 && conditions.length > 20, "the report holds the whole file");
  t.diagnostic(`expressions ${expressions.length} conditions ${conditions.length}`);
});
