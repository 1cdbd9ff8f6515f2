/** One rank tokenizes; the others are sent what it made, whether or not they see its cache. */
import { requireAlike } from "../distributed/agree.ts";
import { fromFirst, type World } from "../distributed/world.ts";
import type { DatasetTokenizer, TokenizedDataset } from "./dataset-tokenizer.ts";
import type { Dataset } from "./dataset.ts";
import { fingerprintDataset } from "./fingerprint.ts";

/** Rank 0 may take as long as the rows need. */
const WAITING = { what: "the tokens of rank 0", deadlineMs: Infinity };

/** What is said of a dataset beside its tokens. */
interface Head {
  readonly fingerprint: string;
  readonly fromCache: boolean;
}

/** @returns a tokenizer whose rank 0 works for all; the same one in a world of one */
export function sharedTokenizer<T extends DatasetTokenizer>(world: World, tokenizer: T): T {
  if (world.size === 1) return tokenizer;
  return {
    ...tokenizer,
    async tokenize(dataset: Dataset, order?: ArrayLike<number>): Promise<TokenizedDataset> {
      await requireAlike(
        world,
        "the rows",
        { fingerprint: fingerprintDataset(dataset) },
        "Give every host the same data files.",
      );
      const own = world.rank === 0 ? await tokenizer.tokenize(dataset, order) : undefined;
      const head = await fromFirst(world, WAITING, (): Head => ({
        fingerprint: own!.fingerprint,
        fromCache: own!.fromCache,
      }));
      const bytes = await world.broadcast(own && (await pack(own)), WAITING);
      return own ?? unpack(dataset, head, new Uint32Array(bytes.buffer));
    },
  };
}

/** Lengths, full lengths and cuts of the rows, then their ids end to end. */
async function pack(data: TokenizedDataset): Promise<Uint8Array<ArrayBuffer>> {
  const { lengths, fullLengths, cuts } = await data.done();
  const rows = data.size;
  const words = new Uint32Array(3 * rows + lengths.reduce((sum, length) => sum + length, 0));
  words.set(lengths, 0);
  words.set(fullLengths, rows);
  words.set(cuts, 2 * rows);
  let at = 3 * rows;
  for (let row = 0; row < rows; row++) {
    words.set(await data.get(row), at);
    at += lengths[row]!;
  }
  return new Uint8Array(words.buffer);
}

function unpack(dataset: Dataset, head: Head, words: Uint32Array<ArrayBuffer>): TokenizedDataset {
  const size = dataset.rows.length;
  const part = (from: number): Uint32Array => words.slice(from * size, (from + 1) * size);
  const [lengths, fullLengths, cuts] = [part(0), part(1), part(2)];
  const starts = new Float64Array(size);
  let at = 3 * size;
  lengths.forEach((length, row) => {
    starts[row] = at;
    at += length;
  });
  const get = (row: number): Promise<Uint32Array> => {
    if (dataset.rows[row] === undefined) return Promise.reject(new RangeError(`row ${row} is outside 0..${size - 1}`));
    return Promise.resolve(words.subarray(starts[row], starts[row]! + lengths[row]!));
  };
  return {
    ...head,
    dataset,
    size,
    get,
    ready: (rows) => Promise.all(Array.from(rows, get)),
    done: () => Promise.resolve({ lengths: lengths.slice(), fullLengths: fullLengths.slice(), cuts: cuts.slice() }),
  };
}
