import { expect, test } from "bun:test";
import { reporterContract } from "qlora/testing";
import { myPlugin } from "../src/index.ts";

for (const { name, run } of reporterContract(myPlugin())) test(name, run);

test("sends the log under transformers' tags", async () => {
  const sent: unknown[] = [];
  const answer = (_url: string, request: { readonly json?: unknown }): object => {
    sent.push(request.json);
    return {};
  };
  await reporterContract(myPlugin(), { answer })[0]!.run();
  expect(sent).toContainEqual(
    expect.objectContaining({ event: "log", at: 1, entries: [expect.objectContaining({ "eval/loss": 1.125 })] }),
  );
});
