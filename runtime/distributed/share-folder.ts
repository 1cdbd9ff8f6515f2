/** A folder of rank 0 on hosts that do not see its disk. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeFolder, remove } from "../files/disk.ts";
import { writeFileAtomic } from "../files/files.ts";
import { gatherJson } from "./agree.ts";
import { fromFirst, type World } from "./world.ts";

const WAITING = { what: "the files of rank 0", deadlineMs: Infinity };

/** A folder that is there; `dispose` removes what was made for it. */
export interface SharedFolder extends AsyncDisposable {
  readonly path: string;
}

const sizesOf = (path: string): readonly (readonly [string, number])[] =>
  existsSync(path)
    ? readdirSync(path, { withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ name }): [string, number] => [name, statSync(join(path, name)).size])
        .sort(([a], [b]) => (a < b ? -1 : 1))
    : [];

/**
 * The files of a folder of rank 0: in place where every rank sees the same there, else copied into a temporary folder of each host
 * that does not.
 */
export async function shareFolder(world: World, path: string): Promise<SharedFolder> {
  const inPlace = { path, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (world.size === 1) return inPlace;
  const sizes = sizesOf(path);
  const files = await fromFirst(world, WAITING, () => sizes);
  const same = await gatherJson(world, WAITING, JSON.stringify(sizes) === JSON.stringify(files));
  if (same.every((own) => own)) return inPlace;
  const copies = join(tmpdir(), `qlora-rank-${world.rank}-${crypto.randomUUID()}`);
  for (const [name] of files) {
    const bytes = await world.broadcast(
      world.rank === 0 ? new Uint8Array(await readFile(join(path, name))) : undefined,
      WAITING,
    );
    if (same[world.rank] === true) continue;
    await makeFolder(copies);
    await writeFileAtomic(join(copies, name), bytes);
  }
  return same[world.rank] === true ? inPlace : { path: copies, [Symbol.asyncDispose]: () => remove(copies) };
}
