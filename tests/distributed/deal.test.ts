import { expect, test } from "bun:test";
import { boundRanks, countCores } from "../../runtime/device/rank-device.ts";
import { dealBatches, dealByTokens } from "../../runtime/distributed/deal.ts";
import { RankPace } from "../../runtime/distributed/pace.ts";
import { sumPieces } from "../../runtime/training/reduce.ts";

test("samples are dealt longest first to the rank with the fewest tokens, whole, and each once", () => {
  // 9 | 7 -> 7+4 | 9 ... by hand: 9 to rank 0, 7 to rank 1, 4 to rank 1 (7 < 9), 3 to rank 0 (9 < 11), 1 to rank 1 (11 < 12).
  expect(dealByTokens([1, 9, 4, 7, 3], 2)).toEqual([
    [1, 4],
    [0, 2, 3],
  ]);
  expect(dealByTokens([5, 5, 5], 1)).toEqual([[0, 1, 2]]);
});

test("a rank may get nothing", () => {
  expect(dealByTokens([8, 2], 3)).toEqual([[0], [1], []]);
  expect(dealByTokens([], 2)).toEqual([[], []]);
});

test("batches are dealt whole, by the tokens of their rows", () => {
  expect(dealBatches([[0, 1], [2], [3]], [10, 10, 12, 7], 2)).toEqual([[0], [1, 2]]);
});

test("pieces are summed in f64, in the order of the ranks", () => {
  const summed = (pieces: Float32Array, ranks: number): number[] => {
    const out = new Float32Array(pieces.length / ranks);
    sumPieces(pieces, out);
    return [...out];
  };
  expect(summed(Float32Array.of(1, 2, 10, 20), 2)).toEqual([11, 22]);
  // 2^24 + 1 + 1 is 2^24 in f32, term by term.
  expect(summed(Float32Array.of(2 ** 24, 1, 1), 3)).toEqual([2 ** 24 + 2]);
});

test("ranks that a launcher has bound to one core are told, once there are several", () => {
  expect([countCores("0-3,8"), countCores("5"), countCores("0-1,4-5")]).toEqual([5, 1, 4]);
  const rank = (cores: [number, number]) => ({ rank: 0, host: "a", pid: 1, device: "x", cores });
  expect(boundRanks([rank([1, 32]), rank([1, 32])])).toStartWith("2 of 2 ranks may run on one core alone");
  expect(boundRanks([rank([1, 32])])).toBeUndefined();
  expect(boundRanks([rank([32, 32]), rank([32, 32])])).toBeUndefined();
  expect(boundRanks([rank([1, 1]), rank([1, 1])])).toBeUndefined();
});

test("a log line tells each rank's speed without its waiting, and nothing in a world of one", () => {
  const pace = new RankPace(2);
  pace.add({ shares: [100, 300], waited: [0.5, 0], reducing: 0.25 }, 1);
  expect(pace.takeSinceLog()).toEqual({
    world_size: 2,
    communication: 0.25,
    rank_0_tokens_per_second: 400,
    rank_0_waiting: 0.5,
    rank_1_tokens_per_second: 400,
    rank_1_waiting: 0,
  });
  expect(pace.takeSinceLog()).toEqual({});
  const alone = new RankPace(1);
  alone.add({ shares: [100], waited: [0], reducing: 0 }, 1);
  expect(alone.takeSinceLog()).toEqual({});
});
