// Makes mutants of security rules: the same text with one guard weakened, turned around or taken away.

const FRAME = /\/(databases|b)\/$/; // the database and the bucket are given, whatever a rule says

// Yield each mutant of `rules` as what was changed, with its whole text.
export function* mutants(rules) {
  const lineOf = (at) => rules.slice(0, at).split("\n").length;
  const replace = (start, end, text) => ({
    what: `line ${lineOf(start)}: ${rules.slice(start, end).replace(/\s+/g, " ")} → ${text}`,
    text: rules.slice(0, start) + text + rules.slice(end),
  });
  for (const [start, end] of conditions(rules)) {
    yield* operands(rules, start, end, replace);
  }
  for (const [pattern, changes] of TOKENS) {
    for (const match of code(rules, pattern)) {
      for (const change of changes(match)) yield replace(match.index, match.index + match[0].length, change);
    }
  }
  yield* wider(rules, replace);
  yield* listed(rules, replace);
}

// What each small thing turns into; a change that leaves it as it is would be none.
const TOKENS = [
  [/ == /g, () => [" != "]],
  [/ != /g, () => [" == "]],
  [/ <= /g, () => [" < ", " > "]],
  [/ is map/g, () => [" is list"]],
  [/\("tenant", ""\)/g, () => ['("tenant", rules.tenant)']],
  [/"membership": "(\w+)"/g, ({ 1: now, input }) => KINDS.filter((other) => sets(other) !== sets(now) && input.includes(`"${other}"`)).map((other) => `"membership": "${other}"`)],
  [/"tenant": "([^"]*)"/g, ([, now]) => [`"tenant": "${now ? "" : "t-1"}"`]],
  [/"anonymous": (true|false)/g, ([, now]) => [`"anonymous": ${now !== "true"}`]],
  [/\n +"\w+": \{[^}]*\},/g, () => [""]],
  [/\[0-9\]\{(\d)\}/g, ([, count]) => [`[0-9]{${Number(count) + 1}}`]],
  [/_\|_\?/g, () => ["_*", "_?"]],
];

// A kind that the rules do not name would be another word for one of those that they do.
const KINDS = ["open", "claim", "tenant", "record"];

// Open and tenant differ by the tenant alone, which is a cell of its own.
const sets = (membership) => (membership === "tenant" ? "open" : membership);

// The conditions: what functions return, but for the tables, and what `if` is followed by.
function* conditions(rules) {
  for (const match of code(rules, /(?:return|: if)\s+([^;{[\s][^;]*);/g)) {
    const start = match.index + match[0].length - 1 - match[1].length;
    yield [start, start + match[1].length];
  }
}

// Each operand of && and || becomes true and false, each operator the other one; parentheses are looked into.
function* operands(rules, start, end, replace) {
  yield replace(start, end, "true");
  yield replace(start, end, "false");
  for (const operator of ["||", "&&"]) {
    const at = split(rules, start, end, operator);
    if (!at.length) continue;
    for (const place of at) yield replace(place, place + 2, operator === "&&" ? "||" : "&&");
    const bounds = [start, ...at.flatMap((place) => [place, place + 2]), end];
    for (let n = 0; n < bounds.length; n += 2) yield* operands(rules, ...trimmed(rules, bounds[n], bounds[n + 1]), replace);
    return;
  }
  if (rules[start] === "(" && rules[end - 1] === ")") yield* operands(rules, ...trimmed(rules, start + 1, end - 1), replace);
}

function trimmed(rules, start, end) {
  while (/\s/.test(rules[start])) start++;
  while (/\s/.test(rules[end - 1])) end--;
  return [start, end];
}

// Where an operator stands outside of brackets and strings.
function split(rules, start, end, operator) {
  const found = [];
  let depth = 0;
  for (let at = start; at < end; at++) {
    if (rules[at] === '"') at = rules.indexOf('"', at + 1);
    else if ("([{".includes(rules[at])) depth++;
    else if (")]}".includes(rules[at])) depth--;
    else if (!depth && rules.startsWith(operator, at)) found.push(at);
  }
  return found;
}

// Every wildcard takes the rest of the path, and every `allow` allows more, or one thing less.
function* wider(rules, replace) {
  for (const match of code(rules, /\{(\w+)\}(?=[/ ])/g)) {
    if (!FRAME.test(rules.slice(0, match.index))) yield replace(match.index, match.index + match[0].length, `{${match[1]}=**}`);
  }
  for (const match of code(rules, /allow ([\w, ]+):([^;]*);/g)) {
    const start = match.index + "allow ".length;
    const end = start + match[1].length;
    // What asks for the new content refuses a read or a delete, which brings none: to allow them too would change nothing.
    if (!match[2].includes("request.resource")) yield replace(start, end, "read, write");
    const single = match[1].replace("read", "get, list").split(", ");
    for (const one of single.length > 1 ? single : []) yield replace(start, end, single.filter((other) => other !== one).join(", "));
  }
}

// Every list of texts loses each of them.
function* listed(rules, replace) {
  for (const match of code(rules, /\[\s*("[^"\]]*",?\s*)+\]/g)) {
    const texts = match[0].match(/"[^"]*"/g);
    for (const text of texts.length > 1 ? texts : []) yield replace(match.index, match.index + match[0].length, `[${texts.filter((other) => other !== text).join(", ")}]`);
  }
}

// Matches outside of comments.
function* code(rules, pattern) {
  for (const match of rules.matchAll(pattern)) {
    const line = rules.slice(rules.lastIndexOf("\n", match.index) + 1, match.index);
    if (!line.includes("//")) yield match;
  }
}
