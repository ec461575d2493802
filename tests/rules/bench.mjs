// Runs attempts against rules that are loaded into the emulators, through the client SDK as a client would.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { assertFails, assertSucceeds, initializeTestEnvironment } from "@firebase/rules-unit-testing";
import { setLogLevel } from "firebase/firestore";

import { ACTORS, token } from "./world.mjs";

setLogLevel("silent");

export const PROJECT = "demo-rules";
const AT_ONCE = 24;
const WRITES_AT_ONCE = 400;

export const rulesOf = (service) => readFileSync(join(process.env.RULES_DIR, `${service}.rules`), "utf8");

export const address = (variable) => {
  const [host, port] = process.env[variable].split(":");
  return { host, port: Number(port) };
};

export const open = (services) => initializeTestEnvironment({ projectId: PROJECT, ...services });

// One client for each actor.
export const clients = (environment, service) =>
  Object.fromEntries(
    Object.entries(ACTORS).map(([name, actor]) => {
      const context = actor.uid ? environment.authenticatedContext(actor.uid, token(actor)) : environment.unauthenticatedContext();
      return [name, context[service]()];
    }),
  );

// Write documents, given as path and fields, past the rules.
export const plant = (environment, documents) =>
  environment.withSecurityRulesDisabled(async (context) => {
    const db = context.firestore();
    for (let start = 0; start < documents.length; start += WRITES_AT_ONCE) {
      const batch = db.batch();
      for (const [path, fields] of documents.slice(start, start + WRITES_AT_ONCE)) batch.set(db.doc(path), fields);
      await batch.commit();
    }
  });

// Upload objects past the rules.
export const place = (environment, paths) =>
  environment.withSecurityRulesDisabled(async (context) => {
    for (const path of paths) await context.storage().ref(path).put(new Uint8Array(1), { contentType: "text/plain" });
  });

// Why an attempt did not end as it must, or null.
async function failure({ name, actor, allowed, run }, by) {
  try {
    await (allowed ? assertSucceeds : assertFails)(run(by[actor]));
    return null;
  } catch (error) {
    return `${name} must be ${allowed ? "allowed" : "denied"}: ${error.message.split("\n")[0]}`;
  }
}

// Run attempts, some at once; return those that failed with the reason, only the first ones if `stop`.
export async function failures(attempts, by, stop = false) {
  const found = [];
  const waiting = attempts.values();
  const work = async () => {
    for (const attempt of waiting) {
      const why = await failure(attempt, by);
      if (why) found.push({ attempt, why });
      if (stop && found.length) return;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return found;
}

// The same attempts in another order, always the same one, so that neighbours are of different kinds and clients.
export function mixed(attempts) {
  let state = 1;
  const random = () => (state = (state * 48271) % 2147483647);
  return attempts.map((attempt) => [random(), attempt]).sort(([a], [b]) => a - b).map(([, attempt]) => attempt);
}
