/** What bun-webgpu packs for a call lives until the call returns, whenever the garbage collector comes. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { openGpu } from "../../runtime/device/open.ts";
import { tiers } from "../support/gpu.ts";

const { encode } = TextEncoder.prototype; // oxlint-disable-line typescript/unbound-method -- called with its `this`
const { setBigUint64 } = DataView.prototype; // oxlint-disable-line typescript/unbound-method -- called with its `this`

describe.skipIf(tiers.length === 0)(
  "bun-webgpu, a collection before every string and every address that it writes",
  () => {
    let collections = 0;
    let junk: Uint8Array[] = [];
    let sizes: readonly number[] = [];
    const collect = (): void => {
      Bun.gc(true);
      collections++;
      junk = sizes.map((size) => new Uint8Array(size).fill(70)); // over what was freed
    };

    beforeEach(() => {
      collections = 0;
      TextEncoder.prototype.encode = function (text) {
        collect();
        return encode.call(this, text);
      };
      // Addresses, and little else, are 64 bits wide.
      DataView.prototype.setBigUint64 = function (...where) {
        collect();
        setBigUint64.apply(this, where);
      };
    });

    afterEach(() => {
      TextEncoder.prototype.encode = encode;
      DataView.prototype.setBigUint64 = setBigUint64;
    });

    test("devices, layouts, bind groups and passes are those that were asked for", async () => {
      sizes = Array.from({ length: 1000 }, (_, i) => 4 + ((i * 4) % 400));
      for (let n = 1; n <= 3; n++) {
        const gpu = await openGpu({ gpu: "bun-webgpu", tier: "f32" });
        const code = `@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@compute @workgroup_size(1) fn main() { b[0] = params.factor * a[0] + b[0]; }`;
        const kernel = gpu.kernel("fma", () => ({ code, bindings: ["read", "write"], uniforms: { factor: "f32" } }));
        gpu.profileStart(); // a pass of its own for each dispatch, with where its times go
        const b = gpu.upload(Float32Array.of(5), [1], "f32", "b");
        for (const value of [1, 10, 100]) {
          const a = gpu.upload(Float32Array.of(value), [1], "f32", "a");
          gpu.dispatch(kernel, [a, b], { factor: n }, [1, 1, 1]);
        }
        expect(await gpu.profileEnd()).toMatchObject([{ key: "fma", calls: 3 }]);
        expect([...(await gpu.readFloats(b))]).toEqual([5 + 111 * n]);
        gpu.destroy();
      }
      expect(collections).toBeGreaterThan(100);
      expect(junk.length).toBe(1000);
    }, 60_000);

    test("shaders are those that were asked for", async () => {
      const gpu = await openGpu({ gpu: "bun-webgpu", tier: "f32" });
      const y = gpu.upload(Float32Array.of(2), [1], "f32", "y");
      const padding = `// ${"so long a text is not kept with its string ".repeat(900)}`;
      sizes = Array.from({ length: 200 }, () => padding.length);
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
      expect([...(await gpu.readFloats(y))]).toEqual([2 + 45]);
      expect(collections).toBeGreaterThan(20);
      expect(junk.length).toBe(200);
      gpu.destroy();
    }, 60_000);
  },
);
