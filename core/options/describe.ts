/** Words for messages and help: what an option expects, and what was got instead. */

const termWords: Readonly<Record<string, readonly [one: string, many: string]>> = {
  number: ["a number", "numbers"],
  "number.integer": ["an integer", "integers"],
  string: ["a string", "strings"],
  boolean: ["true or false", "booleans"],
  object: ["an object", "objects"],
  Function: ["a function", "functions"],
  "Record<string, number>": ['an object of numbers, such as {"name": 4}', "objects of numbers"],
  "Record<string, string>": ['an object of strings, such as {"prompt": "question"}', "objects of strings"],
  "string > 0": ["a string", "strings"],
};

const numberRange = /^(number(?:\.integer)?)\s*((?:<|>|<=|>=)\s*-?[\d.e-]+)$/;
const numberBetween = /^(-?[\d.e-]+)\s*(<=?)\s*(number(?:\.integer)?)\s*(<=?)\s*(-?[\d.e-]+)$/;

function describeTerm(term: string): string {
  const named = termWords[term];
  if (named !== undefined) return named[0];
  if (term.endsWith("[]")) return `a list of ${termWords[term.slice(0, -2)]?.[1] ?? term.slice(0, -2)}`;
  const literal = /^(['"])(.*)\1$/.exec(term);
  if (literal !== null) return JSON.stringify(literal[2]);
  const range = numberRange.exec(term);
  if (range !== null) return `${termWords[range[1]!]![0]} ${range[2]}`;
  const between = numberBetween.exec(term);
  if (between !== null) {
    const atLeast = between[2] === "<=" ? ">=" : ">";
    return `${termWords[between[3]!]![0]} ${atLeast} ${between[1]} and ${between[4]} ${between[5]}`;
  }
  return term;
}

/** `number.integer >= 1` -> `an integer >= 1`; `'a' | 'b'` -> `"a" or "b"`; `('a' | 'b')[]` -> `a list of ...`; what is not known stays as written. */
export function describeDefinition(definition: string): string {
  const list = /^\((.*)\)\[\]$/.exec(definition);
  if (list !== null) return `a list of ${describeDefinition(list[1]!)}`;
  const terms = definition.split("|").map((term) => describeTerm(term.trim()));
  const last = terms.pop()!;
  return terms.length === 0 ? last : `${terms.join(", ")} or ${last}`;
}

/** A value as a message shows it, cut to one short line. */
export function formatValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "function") return "a function";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = undefined; // cyclic: the message only needs a name for it
  }
  if (text === undefined) return "a value that is not JSON";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
