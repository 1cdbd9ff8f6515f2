/** What makes dist/ stale: every file that goes into it. */
import { expect, test } from "bun:test";
import { sourceFiles } from "../../scripts/build/index.ts";

test("sources of every kind and folder are among the files that a build depends on", () => {
  const files = sourceFiles();
  expect(files).toEqual(
    expect.arrayContaining([
      "core/errors.ts",
      "index.ts",
      "kernels/softcap/softcap.wgsl",
      "package.json",
      "plugins/lora/index.ts",
      "runtime/report/live.client.js",
      "runtime/report/report.css",
      "scripts/build/tsconfig.json",
      "testing/toy-model.ts",
    ]),
  );
  expect(files.filter((file) => file.startsWith("sdk/")).length).toBeGreaterThan(10);
});
