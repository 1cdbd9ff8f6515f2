/** What bun-webgpu encodes for a call lives until the call returns, whenever the garbage collector comes. */
import { describe, expect, test } from "bun:test";
import { openGpu } from "../../core/device/index.ts";
import { tiers } from "../support/gpu.ts";

describe.skipIf(tiers.length === 0)("bun-webgpu, a collection before everything that it encodes", () => {
  test("shaders are those that were asked for", async () => {
    const gpu = await openGpu({ gpu: "bun-webgpu", tier: "f32" });
    const { prototype } = TextEncoder;
    // oxlint-disable-next-line typescript/unbound-method -- called with its `this`
    const { encode } = prototype;
    let junk: Uint8Array[] = [];
    let collections = 0;
    const y = gpu.upload(Float32Array.of(2), [1], "f32", "y");
    const padding = `// ${"so long a text is not kept with its string ".repeat(900)}`;
    prototype.encode = function (text) {
      Bun.gc(true);
      collections++;
      junk = Array.from({ length: 200 }, () => new Uint8Array(padding.length).fill(70)); // over what was freed
      return encode.call(this, text);
    };
    try {
      for (let n = 0; n < 10; n++) {
        const code = `${padding}
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { y[0] = y[0] + ${n}.0; }`;
        gpu.dispatch(
          gpu.kernel(`n${n}`, () => ({ code, bindings: ["write"] })),
          [y],
          {},
          [1, 1, 1],
        );
      }
    } finally {
      prototype.encode = encode;
    }
    expect([...(await gpu.readFloats(y))]).toEqual([2 + 45]);
    expect(collections).toBeGreaterThan(20);
    expect(junk.length).toBe(200);
    gpu.destroy();
  }, 60_000);
});
