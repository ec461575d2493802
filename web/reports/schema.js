/** What a form and a report have to know of a JSON Schema: names, choices, and what holds for the values that are there. */

/** Return a schema with what its `$ref` leads to. */
export function resolved(root, schema) {
  if (typeof schema?.$ref !== 'string') return schema ?? {};
  const found = root.$defs?.[schema.$ref.replace('#/$defs/', '')];
  return { ...resolved(root, found), ...schema, $ref: undefined };
}

/** What a field is called: its title, or its name in words. */
export function label(name, schema) {
  if (schema.title) return schema.title;
  const words = name.replace(/([a-z])([A-Z])/g, '$1 $2').replace(/[_-]+/g, ' ');
  return words.charAt(0).toUpperCase() + words.slice(1).toLowerCase();
}

/** The values to choose from, each {value, text}; null where anything may be written. */
export function choices(schema) {
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => ({ value, text: String(value) }));
  const named = schema.oneOf ?? schema.anyOf;
  if (!Array.isArray(named) || !named.every((each) => 'const' in each)) return null;
  return named.map((each) => ({ value: each.const, text: each.title ?? String(each.const) }));
}

export function typeOf(schema) {
  return Array.isArray(schema.type) ? schema.type.find((type) => type !== 'null') : (schema.type ?? (schema.properties ? 'object' : undefined));
}

/** The properties of an object's schema, with what its `if` and `then` add for the values that are there. */
export function properties(root, schema, values) {
  const found = Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, part]) => [name, resolved(root, part)]));
  for (const rule of [schema, ...(schema.allOf ?? [])]) {
    const added = rule.if ? (holds(rule.if, values) ? rule.then : rule.else) : null;
    for (const [name, part] of Object.entries(added?.properties ?? {})) if (found[name]) found[name] = { ...found[name], ...resolved(root, part) };
  }
  return found;
}

/** Whether a condition holds, as far as it asks for values that are there and are one of some. */
function holds({ required = [], properties: wanted = {} }, values) {
  const fits = ([name, part]) => values[name] === undefined || !('const' in part || part.enum) || (part.enum ?? [part.const]).includes(values[name]);
  return required.every((name) => values[name] !== undefined) && Object.entries(wanted).every(fits);
}
