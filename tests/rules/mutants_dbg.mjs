// Runs attempts against every mutant of the rules: one that ends all of them as the rules do has survived.

import assert from "node:assert/strict";

import { failures } from "./bench.mjs";
import { mutants } from "./mutator.mjs";

// Return how many mutants were made and which of them survived. `load` puts rules in force; `heal` undoes what attempts did that
// a mutant let through.
export async function hunt(rules, attempts, by, { load, heal, every = 1 }) {
  const made = [...mutants(rules)].filter(({what}) => /membership|role|resource/.test(what));
  const survivors = [];
  let order = attempts;
  for (const { what, text } of made) {
    await load(text);
    const found = await failures(order, by, true);
    if (!found.length) survivors.push(what);
    const killers = new Set(found.map(({ attempt }) => attempt));
    await heal([...killers]);
    // Only who ends well under the true rules has told anything.
    await load(rules);
    const again = await failures([...killers], by);
    assert.deepEqual(again.map(({ why }) => why), [], `not healed after ${what}`);
    // Who has told one mutant apart is likely to tell the next.
    order = [...killers, ...order.filter((attempt) => !killers.has(attempt))];
  }
  return { made: made.length, survivors };
}
