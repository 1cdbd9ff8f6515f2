/** An installation that lost packages: what needs them says so in one error, with the next step; all else works. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { installPacked, type Outside, runIn } from "../support/packed.ts";
import { tinyCheckpoint } from "../support/reference.ts";

let outside: Outside;

beforeAll(async () => {
  outside = await installPacked();
  rmSync(join(outside.folder, "node_modules", "@huggingface"), { force: true }); // a link, where it is there
}, 60_000);
afterAll(() => outside.remove());

test("@huggingface/hub: a model of the hub is one error, a folder is read", async () => {
  const { exit, stdout, stderr } = await outside.qlora("inspect", "--model", "nobody/nothing");
  expect({ exit, stdout }).toEqual({ exit: 1, stdout: "" });
  const lines = stderr.trim().split("\n");
  expect(lines).toHaveLength(2);
  expect(lines[0]).toContain(
    "looking for nobody/nothing on the hub: the package @huggingface/hub does not load here: ",
  );
  expect(lines[1]).toContain("Reinstall the packages, or give the folder of a checkpoint.");
  expect(await outside.qlora("inspect", "--model", tinyCheckpoint)).toMatchObject({ exit: 0 });
});

test("@huggingface/transformers: a tokenizer that needs AutoTokenizer is one error", async () => {
  const folder = join(outside.folder, "tokenizer");
  mkdirSync(folder);
  cpSync(join(tinyCheckpoint, "tokenizer_config.json"), join(folder, "tokenizer_config.json"));
  const script = `import { loadTokenizer } from ${JSON.stringify(join(outside.installed, "runtime/data/tokenizer.ts"))};
const { code, message, hint } = await loadTokenizer(${JSON.stringify(folder)}).catch((error) => error);
console.log(JSON.stringify({ code, message, hint }));`;
  const { stdout, stderr } = await runIn(outside.folder, [process.execPath, "-e", script]);
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual({
    code: "PACKAGE_NOT_LOADED",
    message: expect.stringContaining("AutoTokenizer: the package @huggingface/transformers does not load here: "),
    hint: expect.stringContaining("tokenizer.json"),
  });
});
