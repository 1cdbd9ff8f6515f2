import { describe, expect, test } from "bun:test";
import { f32ToBf16, bf16ToF32 } from "../../core/formats/half.ts";
import { embedding } from "../../kernels/embedding/index.ts";
import { embeddingReference } from "../../kernels/embedding/reference.ts";
import { expectClose } from "../support/close.ts";
import { gpuOf, normals, random, runSeed, tensorOf, tiers } from "../support/gpu.ts";

const VOCABULARY = 101;

/** A table as stored, and the numbers that it stands for. */
function table(
  dtype: "f32" | "f16" | "bf16",
  columns: number,
): { stored: (rows: readonly [number, number]) => Uint8Array<ArrayBuffer>; values: ArrayLike<number> } {
  const numbers = normals(VOCABULARY * columns, runSeed, 0.05);
  numbers[3] = 1e-6; // subnormal in f16
  const data = dtype === "f32" ? numbers : dtype === "f16" ? new Float16Array(numbers) : f32ToBf16(numbers);
  const bytes = new Uint8Array(data.buffer);
  const rowBytes = bytes.length / VOCABULARY;
  return {
    stored: ([first, end]) => bytes.slice(first * rowBytes, end * rowBytes),
    values: dtype === "bf16" ? bf16ToF32(data as Uint16Array) : data,
  };
}

for (const tier of tiers) {
  describe(`embedding, tier ${tier} (seed ${runSeed})`, () => {
    for (const dtype of ["f32", "f16", "bf16"] as const) {
      for (const [tokens, columns] of [
        [1, 2],
        [17, 6],
        [257, 128],
      ] as const) {
        test(`${dtype}, ${tokens} tokens of ${columns}`, async () => {
          const gpu = await gpuOf(tier);
          const { stored, values } = table(dtype, columns);
          const next = random(runSeed);
          const ids = Uint32Array.from({ length: tokens }, () => Math.floor(next() * VOCABULARY));
          ids[0] = VOCABULARY - 1;
          const scale = Math.fround(Math.sqrt(columns));
          const want = embeddingReference(ids, values, columns, scale);
          for (const cuts of [
            [0, VOCABULARY],
            [0, 40, 41, VOCABULARY],
          ]) {
            const chunks = cuts.slice(1).map((end, i) => {
              const firstRow = cuts[i]!;
              const tensor = gpu.upload(stored([firstRow, end]), [end - firstRow, columns], dtype, "table");
              return { tensor, firstRow };
            });
            const idTensor = tensorOf(gpu, ids, [tokens], "u32");
            const out = gpu.alloc([tokens, columns], "f32", "out");
            embedding(gpu, idTensor, chunks, out, scale);
            // One rounding of one product.
            expectClose(await gpu.readFloats(out), want, { rtol: 2 ** -23 }, `${chunks.length} chunks`);
            for (const tensor of [idTensor, out, ...chunks.map((c) => c.tensor)]) gpu.free(tensor);
          }
        });
      }
    }

    test("an id outside the table gives zeros", async () => {
      const gpu = await gpuOf(tier);
      const { stored } = table("bf16", 4);
      const ids = tensorOf(gpu, [VOCABULARY, 0xffffffff, 5], [3], "u32");
      const tensor = gpu.upload(stored([0, VOCABULARY]), [VOCABULARY, 4], "bf16", "table");
      const out = gpu.alloc([3, 4], "f32", "out");
      embedding(gpu, ids, [{ tensor, firstRow: 0 }], out, 1);
      const got = await gpu.readFloats(out);
      expect([...got.subarray(0, 8)]).toEqual(Array(8).fill(0));
      expect(got.subarray(8).every((v) => v !== 0)).toBe(true);
      for (const t of [ids, tensor, out]) gpu.free(t);
    });

    test("an odd row of 16 bits is refused", async () => {
      const gpu = await gpuOf(tier);
      const ids = tensorOf(gpu, [0], [1], "u32");
      const tensor = gpu.alloc([2, 3], "bf16", "table");
      const out = gpu.alloc([1, 3], "f32", "out");
      expect(() => embedding(gpu, ids, [{ tensor, firstRow: 0 }], out, 1)).toThrow("whole words");
      for (const t of [ids, tensor, out]) gpu.free(t);
    });
  });
}
