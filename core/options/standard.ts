/** Schemas of other libraries (https://standardschema.dev): what of zod, valibot or arktype an option set needs. */
import { formatValue } from "./describe.ts";

interface Issue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

type Validation<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly Issue[] };

/** A schema of any library that keeps Standard Schema; `jsonSchema`, where it has one, gives flags and help. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Validation<Output> | Promise<Validation<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
    readonly jsonSchema?: { readonly input: (options: { readonly target: "draft-2020-12" }) => unknown } | undefined;
  };
}

/** True for a schema object, and for a schema that is a function, as arktype's are. */
export const isStandardSchema = (value: unknown): value is StandardSchema =>
  ((typeof value === "object" && value !== null) || typeof value === "function") && "~standard" in value;

type Json = Readonly<Record<string, unknown>>;

/** One key of a schema, as `option` wants it. */
export interface SchemaKey {
  readonly key: string;
  readonly definition: string;
  readonly help: string;
  readonly default: unknown;
  readonly required: boolean;
}

/** The keys that a schema names in its JSON Schema; none where it has no such thing. */
export function schemaKeys(schema: StandardSchema): readonly SchemaKey[] {
  const json = schema["~standard"].jsonSchema?.input({ target: "draft-2020-12" }) as Json | undefined;
  const { properties = {}, required = [] } = (json ?? {}) as {
    readonly properties?: Readonly<Record<string, Json>>;
    readonly required?: readonly string[];
  };
  return Object.entries(properties).map(([key, value]) => ({
    key,
    definition: definitionOf(value),
    help: typeof value["description"] === "string" ? value["description"] : "",
    default: value["default"],
    required: required.includes(key),
  }));
}

const literal = (value: unknown): string => (typeof value === "string" ? `'${value}'` : String(value));
const isLiteral = (value: unknown): boolean =>
  typeof value === "number" || typeof value === "boolean" || (typeof value === "string" && /^[^'"\\|]*$/.test(value));

/** The arktype definition of a JSON Schema, as far as flags and their help need it: the schema itself has the last word. */
function definitionOf(json: Json): string {
  const { type, enum: values, const: only, anyOf, items, minimum, maximum } = json;
  const given = Array.isArray(values) ? (values as readonly unknown[]) : only === undefined ? [] : [only];
  if (given.length > 0) return given.every(isLiteral) ? given.map(literal).join(" | ") : "unknown";
  if (Array.isArray(anyOf)) return (anyOf as readonly Json[]).map(definitionOf).join(" | ");
  if (type === "array" && typeof items === "object") {
    const item = definitionOf(items as Json);
    return item.includes(" ") ? `(${item})[]` : `${item}[]`;
  }
  if (type === "boolean" || type === "string" || type === "object") return type;
  if (type !== "number" && type !== "integer") return "unknown";
  const name = type === "integer" ? "number.integer" : "number";
  const bound = (value: unknown): value is number =>
    typeof value === "number" && Math.abs(value) < Number.MAX_SAFE_INTEGER;
  if (bound(minimum) && bound(maximum)) return `${minimum} <= ${name} <= ${maximum}`;
  if (bound(minimum)) return `${name} >= ${minimum}`;
  return bound(maximum) ? `${name} <= ${maximum}` : name;
}

/** What a schema makes of a value, or its problems, each with its place. */
export function validateStandard(
  schema: StandardSchema,
  input: unknown,
  at: (key: string) => string,
): { readonly value: unknown } | { readonly problems: readonly string[] } {
  const { validate, vendor } = schema["~standard"];
  const result = validate(input);
  if (result instanceof Promise) {
    result.catch(() => {}); // nobody waits for its verdict
    return {
      problems: [`${at("~standard")}: the schema of ${vendor} answers later, expected one that checks at once`],
    };
  }
  if (result.issues === undefined) return { value: result.value };
  return {
    problems: result.issues.map(({ message, path = [] }) => {
      const keys = path.map((step) => (typeof step === "object" ? step.key : step));
      const value = keys.reduce<unknown>(
        (from, key) => (from as Record<PropertyKey, unknown> | undefined)?.[key],
        input,
      );
      const place = keys.map(String).join(".");
      return `${place === "" ? at("options").replace(/\.options$/, "") : at(place)}: got ${formatValue(value)}: ${message}`;
    }),
  };
}
