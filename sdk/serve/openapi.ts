/** The server's interface as an OpenAPI 3.1 document. */
import { version } from "../../core/util/version.ts";

const string = { type: "string" } as const;
const number = { type: "number" } as const;
const integer = { type: "integer", minimum: 0 } as const;
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });

const object = (properties: Readonly<Record<string, object>>, optional: readonly string[] = []) => ({
  type: "object",
  properties,
  required: Object.keys(properties).filter((key) => !optional.includes(key)),
  additionalProperties: false,
});

const list = (items: object) => ({ type: "array", items });
const json = (description: string, schema: object) => ({ description, content: { "application/json": { schema } } });
const text = (description: string) => ({ description, content: { "text/plain": { schema: string } } });

const failures = Object.fromEntries(
  [
    ["400", "The request cannot be read; the message names the key"],
    ["401", "The bearer token is missing or wrong"],
    ["404", "No adapter of that name"],
    ["413", "The body, or the number of rows, is larger than the server takes"],
    ["429", "The queue is full; Retry-After says when to come again"],
    ["500", "The server failed"],
    ["503", "The server is stopping"],
  ].map(([status, description]) => [status, json(description!, ref("Error"))]),
);

const schemas = {
  Comparison: object({ prompt: string, response_a: string, response_b: string }),
  Input: { oneOf: [string, ref("Comparison")] },
  ClassifyRequest: object(
    {
      model: { ...string, description: "name of an adapter; default: the first" },
      input: { oneOf: [ref("Input"), { ...list(ref("Input")), minItems: 1 }] },
      tta: { enum: ["none", "swap"], description: "swap: the mean with A and B exchanged, of comparisons" },
    },
    ["model", "tta"],
  ),
  ScoreRequest: object({ model: string, input: { oneOf: [string, { ...list(string), minItems: 1 }] } }, ["model"]),
  Usage: object({ prompt_tokens: integer, total_tokens: integer, completion_tokens: { const: 0 } }),
  ClassifyResponse: object({
    id: string,
    object: { const: "list" },
    created: integer,
    model: string,
    data: list(
      object({
        index: integer,
        label: { ...string, description: "name of the most probable class" },
        probs: { ...list(number), description: "in the order of the classes" },
        num_classes: integer,
        probabilities: { type: "object", additionalProperties: number, description: "by the names of the classes" },
        truncated: { type: "boolean", description: "whether the row was longer than the model reads" },
      }),
    ),
    usage: ref("Usage"),
  }),
  ScoreResponse: object({
    id: string,
    object: { const: "list" },
    created: integer,
    model: string,
    data: list(object({ index: integer, object: { const: "score" }, score: number, truncated: { type: "boolean" } })),
    usage: ref("Usage"),
  }),
  Models: object({
    object: { const: "list" },
    data: list(
      object({
        id: string,
        object: { const: "model" },
        created: integer,
        owned_by: string,
        root: string,
        max_model_len: integer,
      }),
    ),
  }),
  Error: object({ error: object({ message: string, hint: string, type: string, code: string }, ["hint"]) }),
};

const post = (summary: string, request: string, response: string) => ({
  summary,
  requestBody: { required: true, content: { "application/json": { schema: ref(request) } } },
  responses: { "200": json("Rows in the order of the input", ref(response)), ...failures },
});

/** @param secured whether requests need a bearer token */
export function openApi(secured: boolean): object {
  const security = secured ? [{ bearer: [] }] : [];
  return {
    openapi: "3.1.0",
    info: { title: "qlora serve", version, description: "A trained classifier over HTTP." },
    security,
    paths: {
      "/classify": { post: post("Probabilities of texts or comparisons", "ClassifyRequest", "ClassifyResponse") },
      "/score": { post: post("Scores of texts, of an adapter with one logit", "ScoreRequest", "ScoreResponse") },
      "/v1/models": { get: { summary: "The adapters", responses: { "200": json("All of them", ref("Models")) } } },
      "/health": {
        get: {
          summary: "Whether requests are answered",
          security: [],
          responses: { "200": text("They are"), "503": text("The server is stopping, or its GPU is lost") },
        },
      },
      "/metrics": { get: { summary: "Figures for Prometheus", responses: { "200": text("Text format 0.0.4") } } },
    },
    components: {
      schemas,
      ...(secured ? { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } } : {}),
    },
  };
}
