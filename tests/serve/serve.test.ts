/** A server over the tiny model: its answers are predict's, whoever asks at the same time. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Ajv from "ajv/dist/2020.js";
import { predict, serve, type JudgeServer, type ServeRequest, train } from "../../index.ts";
import { failure } from "../support/failure.ts";
import { smallRun, temporaryFolder, testProvider } from "../support/run.ts";

const comparisons = Array.from({ length: 32 }, (_, i) => ({
  prompt: `What is ${i}?`,
  response_a: `It is ${"one more than ".repeat(i % 7)}nothing.`,
  response_b: i % 3 === 0 ? "" : `I ${"really ".repeat(i % 5)}cannot say.`,
}));

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let run: string;
let other: string;
let server: JudgeServer;
/** [rows] probabilities of `comparisons` by predict. */
let expected: readonly (readonly number[])[];

const device = { gpu: testProvider, tier: "f32" } as const;
const request = (given: Partial<ServeRequest> = {}): ServeRequest => ({ run, port: 0, device, ...given });

beforeAll(async () => {
  folder = await temporaryFolder();
  const config = await smallRun(folder.path, { training: { saveStrategy: "steps", saveSteps: 3 }, device });
  run = (await train(config)).outputDir;
  other = join(folder.path, "earlier");
  await cp(join(run, "checkpoint-3"), other, { recursive: true });
  await cp(join(run, "run.json"), join(other, "run.json"));
  const file = join(folder.path, "ask.csv");
  const cell = (text: string): string => `"${JSON.stringify([text]).replaceAll('"', '""')}"`;
  const lines = comparisons.map((each, i) => [i, ...Object.values(each).map(cell)].join(","));
  await writeFile(file, `id,prompt,response_a,response_b\n${lines.join("\n")}\n`);
  expected = (await predict({ run, files: [file], device })).rows.map(({ values }) => values);
  server = await serve(request({ adapters: [other] }));
});

afterAll(async () => {
  await server?.stop();
  await folder[Symbol.asyncDispose]();
});

type Answer = {
  readonly model: string;
  readonly data: readonly {
    index: number;
    label: string;
    probs: number[];
    probabilities: Record<string, number>;
    truncated: boolean;
  }[];
  readonly usage: { readonly total_tokens: number };
};

const post = (body: unknown, path = "classify", init: RequestInit = {}): Promise<Response> =>
  fetch(`${server.url}${path}`, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
  });

const ask = async (body: unknown): Promise<Answer> => {
  const response = await post(body);
  expect(response.status).toBe(200);
  return (await response.json()) as Answer;
};

const worst = (got: readonly (readonly number[])[], want: readonly (readonly number[])[]): number =>
  Math.max(...got.flatMap((row, i) => row.map((value, c) => Math.abs(value - want[i]![c]!))));

test("32 clients at once get predict's probabilities, each its own, in far fewer batches", async () => {
  const before = await batches();
  const answers = await Promise.all(comparisons.map((input) => ask({ input })));
  const probs = answers.map(({ data }) => data[0]!.probs);
  expect(worst(probs, expected)).toBeLessThan(1e-5);
  expect(probs.every((row) => Math.abs(row.reduce((sum, p) => sum + p, 0) - 1) < 1e-6)).toBe(true);
  expect((await batches()) - before).toBeLessThan(16);
  const names = ["winner_model_a", "winner_model_b", "winner_tie"];
  answers.forEach(({ data: [row] }, i) => {
    expect(Object.keys(row!.probabilities)).toEqual(names);
    expect(row!.label).toBe(names[expected[i]!.indexOf(Math.max(...expected[i]!))]!);
  });
});

const batches = async (): Promise<number> =>
  Number(/^qlora_batch_rows_count (\d+)$/m.exec(await (await fetch(`${server.url}metrics`)).text())![1]);

test("one request of many rows is answered in their order; swap is the mean of both orders", async () => {
  const { data } = await ask({ input: comparisons });
  expect(data.map(({ index }) => index)).toEqual(comparisons.map((_, i) => i));
  expect(
    worst(
      data.map(({ probs }) => probs),
      expected,
    ),
  ).toBeLessThan(1e-5);
  const exchanged = await ask({
    input: comparisons.map(({ prompt, response_a, response_b }) => ({
      prompt,
      response_a: response_b,
      response_b: response_a,
    })),
  });
  const mean = data.map(({ probs: [a, b, tie] }, i) => {
    const [a2, b2, tie2] = exchanged.data[i]!.probs as [number, number, number];
    return [(a! + b2) / 2, (b! + a2) / 2, (tie! + tie2) / 2];
  });
  const swapped = await ask({ input: comparisons, tta: "swap" });
  expect(
    worst(
      swapped.data.map(({ probs }) => probs),
      mean,
    ),
  ).toBeLessThan(1e-5);
});

test("two adapters on one base answer as each does alone, request by request", async () => {
  await using alone = await serve(request({ run: other }));
  const input = comparisons.slice(0, 6);
  const want = (await (
    await fetch(`${alone.url}classify`, { method: "POST", body: JSON.stringify({ input }) })
  ).json()) as Answer;
  const asked = await Promise.all(
    ["a", "b", "a", "b"].map((which) => ask({ input, ...(which === "a" ? {} : { model: "earlier" }) })),
  );
  expect(asked.map(({ model }) => model)).toEqual(["run", "earlier", "run", "earlier"]);
  const later = want.data.map(({ probs }) => probs);
  asked.forEach(({ data }, i) =>
    expect(
      worst(
        data.map(({ probs }) => probs),
        i % 2 === 0 ? expected : later,
      ),
    ).toBeLessThan(1e-5),
  );
  expect(worst(later, expected)).toBeGreaterThan(1e-3); // else the test could not tell them apart
});

test("a row longer than the model reads says so", async () => {
  const { data } = await ask({
    input: [comparisons[0], { ...comparisons[0], response_b: "word ".repeat(400) }, "a text"],
  });
  expect(data.map(({ truncated }) => truncated)).toEqual([false, true, false]);
});

test.each([
  ["no json", "{", 400, "the body is no JSON"],
  ["a list", [], 400, "the body: got [], expected a JSON object"],
  ["no input", {}, 400, "input: got nothing, expected a string, or an object with prompt, response_a, response_b"],
  ["an empty list", { input: [] }, 400, "input: got an empty list"],
  ["a number", { input: ["a", 3] }, 400, "input[1]: got 3, expected a string"],
  [
    "half a comparison",
    { input: { prompt: "p", response_a: "a" } },
    400,
    "input.response_b: got nothing, expected a string",
  ],
  [
    "a misspelt field",
    { input: { prompt: "p", responsea: "a" } },
    400,
    'input.responsea: unknown key; did you mean "response_a"?',
  ],
  ["an unknown key", { input: "a", truncate_prompt_tokens: 3 }, 400, "truncate_prompt_tokens: unknown key"],
  ["a text to swap", { input: "a", tta: "swap" }, 400, 'tta: got "swap", but input[0] is a text'],
  ["another adapter", { input: "a", model: "gpt" }, 404, 'model: got "gpt", expected run or earlier'],
  ["too many rows", { input: Array.from({ length: 1025 }, () => "a") }, 413, "got 1025 rows, expected at most 1024"],
])("%s is refused by name", async (_, body, status, message) => {
  const response = await post(body);
  expect(response.status).toBe(status);
  const { error } = (await response.json()) as { error: { message: string } };
  expect(error.message).toContain(message);
});

test("other methods, paths, heads, hosts and origins are refused", async () => {
  expect((await fetch(`${server.url}classify`)).status).toBe(405);
  expect((await fetch(`${server.url}nothing`)).status).toBe(404);
  const score = await post({ input: "a" }, "score");
  expect([score.status, ((await score.json()) as { error: { hint: string } }).error.hint]).toEqual([
    400,
    "Ask /classify.",
  ]);
  expect((await post({ input: "a" }, "classify", { headers: { host: "evil.example" } })).status).toBe(403);
  expect((await post({ input: "a" }, "classify", { headers: { origin: "https://evil.example" } })).status).toBe(403);
  expect((await post("x".repeat(9 * 1024 * 1024))).status).toBe(413);
});

test("every answer is as /openapi.json says", async () => {
  const document = (await (await fetch(`${server.url}openapi.json`)).json()) as {
    components: { schemas: Record<string, object> };
  };
  const ajv = new Ajv({ strict: false });
  ajv.addSchema({ $id: "doc", components: document.components });
  const valid = (name: string, value: unknown): unknown => {
    const check = ajv.compile({ $ref: `doc#/components/schemas/${name}` });
    return check(value) ? true : check.errors;
  };
  expect(valid("ClassifyResponse", await ask({ input: ["a text", comparisons[0]] }))).toBe(true);
  expect(valid("ClassifyRequest", { input: [comparisons[0]], tta: "swap" })).toBe(true);
  expect(valid("ClassifyRequest", { input: { prompt: "p" } })).not.toBe(true);
  expect(valid("Error", await (await post({})).json())).toBe(true);
  const models = (await (await fetch(`${server.url}v1/models`)).json()) as { data: { id: string }[] };
  expect(valid("Models", models)).toBe(true);
  expect(models.data.map(({ id }) => id)).toEqual(["run", "earlier"]);
});

test("a full queue is answered with 429 and when to come again; what waits is answered", async () => {
  await using small = await serve(request({ maxQueueTokens: 40 }));
  const answers = await Promise.all(
    comparisons.map((input) => fetch(`${small.url}classify`, { method: "POST", body: JSON.stringify({ input }) })),
  );
  const statuses = new Set(answers.map(({ status }) => status));
  expect([...statuses].sort((a, b) => a - b)).toEqual([200, 429]);
  expect(answers.find(({ status }) => status === 429)!.headers.get("retry-after")).toBe("1");
});

test("what others can reach needs a key; with one, requests without it are 401, and /health is open", async () => {
  expect(await failure(serve(request({ host: "0.0.0.0" })))).toContain(
    "host: 0.0.0.0 can be reached from other machines",
  );
  await using keyed = await serve(request({ host: "0.0.0.0", apiKey: "a secret" }));
  const url = keyed.url.replace("0.0.0.0", "127.0.0.1");
  const send = (headers: Record<string, string>): Promise<Response> =>
    fetch(`${url}classify`, { method: "POST", body: JSON.stringify({ input: "a" }), headers });
  expect((await send({})).status).toBe(401);
  expect((await send({ authorization: "Bearer a secreT" })).status).toBe(401);
  expect((await fetch(`${url}metrics`)).status).toBe(401);
  expect((await fetch(`${url}health`)).status).toBe(200);
  expect(await (await fetch(url)).text()).not.toContain("a secret");
});

test("adapters of another kind cannot share the base", async () => {
  const config = await smallRun(folder.path, {
    training: { outputDir: join(folder.path, "third"), maxSteps: 1 },
    data: { maxLength: 48 },
    device,
  });
  const third = (await train(config)).outputDir;
  expect(await failure(serve(request({ adapters: [third] })))).toContain("third: its data options is");
  expect(await failure(serve(request({ adapters: [run] })))).toContain('another adapter is called "run" too');
});
