import { describe, expect, test } from "bun:test";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { swapResponses } from "../../runtime/data/swap.ts";
import { formatProbabilities, type ProbabilityRow, requireUniqueIds } from "../../sdk/probabilities.ts";
import { averageSwapped } from "../../runtime/inference/tta.ts";
import { csvRow, tempFile } from "../data/files.ts";

const HEADER = "id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie";
/** A becomes B, B becomes A, a tie stays. */
const SIDES = [1, 0, 2];
const row = (id: string, a: string, b: string, winner: number): string =>
  csvRow(id, '["p"]', JSON.stringify([a]), JSON.stringify([b]), ...[0, 1, 2].map((i) => (i === winner ? "1" : "0")));

const dataset = await loadDataset(
  tempFile("arena.csv", [HEADER, row("x", "one", "two", 0), row("y", "three", "four", 2)].join("\n")),
);

describe("swapping", () => {
  test("exchanges responses and the label; a tie stays a tie; twice is nothing", async () => {
    const swapped = swapResponses(dataset);
    expect(swapped.rows[0]).toMatchObject({ id: "x", responseA: "two", responseB: "one", label: 1 });
    expect(swapped.rows[1]).toMatchObject({ id: "y", responseA: "four", responseB: "three", label: 2 });
    expect(swapResponses(swapped)).toEqual(dataset);
  });

  test("an id that stands twice is an error with both places", async () => {
    const file = tempFile("twice.csv", [HEADER, row("x", "a", "b", 0), row("x", "c", "d", 1)].join("\n"));
    const twice = await loadDataset(file);
    expect(() => requireUniqueIds(twice)).toThrow(`${file}:3: id "x" stands also in ${file}:2`);
  });
});

describe("averaging by id", () => {
  // Both frames sorted by token count, longest first, as the notebook does. Exchanging the answers changed the order:
  // "x" is longer as it stands, "y" is longer when exchanged.
  const plain: ProbabilityRow[] = [
    { id: "x", values: [0.8, 0.1, 0.1] },
    { id: "y", values: [0.3, 0.4, 0.3] },
  ];
  const swapped: ProbabilityRow[] = [
    { id: "y", values: [0.5, 0.3, 0.2] },
    { id: "x", values: [0.2, 0.6, 0.2] },
  ];
  const averaged = averageSwapped(plain, swapped, SIDES, "test.csv");
  const rounded = averaged.map(({ id, values }) => [id, ...values.map((value) => Math.round(value * 1e12) / 1e12)]);

  test("flips the first two columns back and joins by id", async () => {
    expect(rounded).toEqual([
      ["x", 0.7, 0.15, 0.15],
      ["y", 0.3, 0.45, 0.25],
    ]);
  });

  test("the notebook's join by position gives another answer, and loses a winner", async () => {
    const byPosition = plain.map(({ values }, i) => {
      const [b, a, tie] = swapped[i]!.values;
      return [(values[0]! + a!) / 2, (values[1]! + b!) / 2, (values[2]! + tie!) / 2];
    });
    const winner = (values: readonly number[]): number => values.indexOf(Math.max(...values));
    expect(byPosition[1]![0]).toBeCloseTo(0.45, 12); // x's vote counted for y
    expect(averaged[1]!.values[0]).toBeCloseTo(0.3, 12);
    expect([winner(byPosition[1]!), winner(averaged[1]!.values)]).toEqual([0, 1]);
    expect(byPosition[0]![0]! - averaged[0]!.values[0]!).toBeCloseTo(-0.15, 12);
  });

  test("a row without a partner is an error", async () => {
    expect(() => averageSwapped(plain, [swapped[0]!, { id: "z", values: [0, 0, 1] }], SIDES, "test.csv")).toThrow(
      'row "x" has no swapped prediction',
    );
    expect(() => averageSwapped(plain, [swapped[0]!], SIDES, "test.csv")).toThrow("got 1 ids");
  });
});

test("a submission has the competition's columns", async () => {
  const columns = ["winner_model_a", "winner_model_b", "winner_tie"];
  expect(formatProbabilities({ columns, rows: [{ id: "136060", values: [0.25, 0.5, 0.25] }] })).toBe(
    "id,winner_model_a,winner_model_b,winner_tie\n136060,0.25,0.5,0.25\n",
  );
});
