import { describe, test } from "bun:test";
import { accumulate } from "../../core/compute/accumulate.ts";
import { addReference } from "../../kernels/add/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, rounded, runSeed, tensorOf, tiers } from "../support/gpu.ts";

for (const tier of tiers) {
  describe(`add, tier ${tier} (seed ${runSeed})`, () => {
    for (const size of [1, 17, 257, 70_001]) {
      test(`${size} elements`, async () => {
        const gpu = await gpuOf(tier);
        const a = rounded(normals(size, runSeed), gpu.computeDtype);
        const b = rounded(normals(size, runSeed + 1), gpu.computeDtype);
        const into = tensorOf(gpu, a, [size], gpu.computeDtype);
        const source = tensorOf(gpu, b, [size], gpu.computeDtype);
        accumulate(gpu, into, source);
        expectClose(await gpu.readFloats(into), addReference(a, b), {
          rtol: gpu.computeDtype === "f16" ? 2 ** -11 : 2 ** -24,
          atol: 1e-7,
        });
        gpu.free(into);
        gpu.free(source);
      });
    }
  });
}
