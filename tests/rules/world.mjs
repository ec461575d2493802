// The apps and actors that the rules are tried with, and what lies in the database when they are.
//
// `tests/test_rules.py` writes rules whose table of apps is APPS.

export const APPS = {
  alpha: { membership: "open" },
  beta: { membership: "claim" },
  gamma: { membership: "tenant", tenant: "t-1" },
  delta: { membership: "record" },
  epsilon: { membership: "open", anonymous: true },
};
export const UNKNOWN_APP = "zeta";

// Each uid occurs once, so that nobody's records are another's. `enters` lists the apps that let the actor in.
export const ACTORS = {
  nobody: { enters: [] },
  plain: { uid: "ada", enters: ["alpha", "epsilon"] },
  member: { uid: "mia", claims: { apps: { beta: "member" } }, record: "member", enters: ["alpha", "beta", "delta", "epsilon"] },
  admin: { uid: "amy", claims: { apps: { beta: "admin" } }, record: "admin", enters: ["alpha", "beta", "delta", "epsilon"] },
  // An admin of every app but the one that asks for a claim.
  foreignAdmin: {
    uid: "fay",
    claims: { apps: { alpha: "admin", gamma: "admin", delta: "admin", epsilon: "admin", zeta: "admin" } },
    enters: ["alpha", "epsilon"],
  },
  disabled: { uid: "dan", claims: { apps: { beta: "disabled" } }, record: "disabled", enters: ["alpha", "epsilon"] },
  listed: { uid: "leo", claims: { apps: ["beta", "delta"] }, record: ["member"], enters: ["alpha", "epsilon"] },
  flagged: { uid: "flo", claims: { apps: { beta: true } }, record: true, enters: ["alpha", "epsilon"] },
  anonymous: { uid: "ann", claims: { apps: { beta: "member" } }, provider: "anonymous", record: "member", enters: ["epsilon"] },
  ofTenant: { uid: "tia", claims: { apps: { beta: "member" } }, tenant: "t-1", record: "member", enters: ["gamma"] },
  ofOtherTenant: { uid: "tom", claims: { apps: { beta: "member", gamma: "admin" } }, tenant: "t-2", record: "member", enters: [] },
  anonymousOfTenant: { uid: "abe", tenant: "t-1", provider: "anonymous", enters: [] },
  // The segment `a%2Fb` is the user `a/b`, and `__x` is nobody's: the service writes it as `%5F_x`.
  disguised: { uid: "a%2Fb", claims: { apps: { beta: "member" } }, record: "member", enters: [] },
  underscored: { uid: "__x", claims: { apps: { beta: "member" } }, record: "member", enters: [] },
  dashed: { uid: "_x-Y_0", enters: ["alpha", "epsilon"] },
  underscore: { uid: "_", enters: ["alpha", "epsilon"] },
};
export const VICTIM = "vic";

export const DATA = { data: { city: "Bern", tags: ["a"], deep: { n: 1 } }, updated: "2026-01-31T23:59:59.123Z" };

// What lies below a user: `reads` what its owner may do, of get and list; `writes` whether they may write it too.
export const OWN = [
  { path: "", reads: ["get"] },
  { path: "chats/c1", reads: ["get", "list"] },
  { path: "chats/c1/turns/t1", reads: ["get", "list"] },
  { path: "documents/d1", reads: ["get", "list"] },
  { path: "documents/d1/chunks/0", reads: ["get", "list"] },
  { path: "jobs/j1", reads: ["get", "list"] },
  { path: "calls/k1", reads: ["get", "list"] },
  { path: "data/profile", reads: ["get", "list"], writes: true },
  // The service's alone, known and unknown.
  { path: "vectors/v1", reads: [] },
  { path: "searchable/profile", reads: [] },
  { path: "outbox/j1", reads: [] },
  { path: "deadLetters/j1", reads: [] },
  { path: "secrets/s1", reads: [] },
  { path: "chats/c1/drafts/x", reads: [] },
  { path: "chats/c1/turns/t1/versions/x", reads: [] },
  { path: "documents/d1/pages/x", reads: [] },
  { path: "documents/d1/chunks/0/words/x", reads: [] },
  { path: "jobs/j1/steps/x", reads: [] },
  { path: "calls/k1/parts/x", reads: [] },
  { path: "data/profile/history/x", reads: [] },
];

// What lies beside the users, all the service's alone; APP stands for the app.
export const SHARED = [
  "apps/APP",
  "apps/APP/shared/knowledge",
  "apps/APP/shared/knowledge/documents/d1",
  "apps/APP/shared/knowledge/documents/d1/chunks/0",
  "apps/APP/vectors/v1",
  "apps/APP/jobs/j1",
  "apps/APP/outbox/j1",
  "apps/APP/deadLetters/j1",
  "apps/APP/erasures/e1",
  "apps/APP/calls/k1",
  "apps/APP/permalinks/p1",
  "apps/APP/data/profile",
  "apps/APP/members/mia",
  "users/mia",
  "anything/x",
];

export const GROUPS = ["users", "chats", "turns", "recent", "documents", "chunks", "jobs", "outbox", "deadLetters", "calls", "data", "vectors", "searchable", "erasures"];

export const uids = () => [...Object.values(ACTORS).flatMap((actor) => actor.uid ?? []), VICTIM];

// What a record says where records decide, and where they must not: in beta everyone has one.
const recorded = (app, actor) => ({ beta: "member", delta: actor?.record })[app] ?? "none";

// Every document, as path and fields.
export function* seeds() {
  for (const id of ["written", "overwritten"]) yield [`apps/beta/users/mia/data/${id}`, { ...DATA, _commit: "the service's" }];
  for (const app of [...Object.keys(APPS), UNKNOWN_APP]) {
    for (const path of SHARED) yield [path.replace("APP", app), DATA];
    for (const uid of uids()) {
      const actor = Object.values(ACTORS).find((other) => other.uid === uid);
      for (const { path } of OWN) {
        const fields = path ? DATA : { role: recorded(app, actor), updated: DATA.updated };
        yield [["apps", app, "users", uid, path].filter(Boolean).join("/"), fields];
      }
    }
  }
}

export function token(actor) {
  const firebase = { sign_in_provider: actor.provider ?? "custom", identities: {}, ...(actor.tenant && { tenant: actor.tenant }) };
  return { ...actor.claims, firebase };
}
