import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { QloraError } from "../../core/errors.ts";
import { writeFileAtomic, writeFolderAtomic } from "../../runtime/files/files.ts";
import { rejection, temporaryFolder } from "./support.ts";

const root = temporaryFolder();
let next = 0;
function folder(): string {
  const dir = join(root, `case${next++}`);
  mkdirSync(dir);
  return dir;
}

function failure(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

describe("writeFileAtomic", () => {
  test("writes text, bytes and pieces, makes the folders above, leaves nothing beside", async () => {
    const dir = folder();
    await writeFileAtomic(join(dir, "a/b/text"), "ä\n");
    await writeFileAtomic(join(dir, "a/b/bytes"), Uint8Array.of(1, 2, 3).subarray(1));
    async function* pieces() {
      yield Uint8Array.of(1);
      yield new Uint8Array(0);
      yield Uint8Array.of(2, 3);
    }
    await writeFileAtomic(join(dir, "a/b/pieces"), pieces());
    expect(readFileSync(join(dir, "a/b/text"), "utf8")).toBe("ä\n");
    expect([...readFileSync(join(dir, "a/b/bytes"))]).toEqual([2, 3]);
    expect([...readFileSync(join(dir, "a/b/pieces"))]).toEqual([1, 2, 3]);
    expect(readdirSync(join(dir, "a/b")).toSorted()).toEqual(["bytes", "pieces", "text"]);
  });

  test("a failure leaves the old file as it was", async () => {
    const dir = folder();
    await writeFileAtomic(join(dir, "file"), "old");
    async function* pieces() {
      yield Uint8Array.of(1);
      throw failure("ENOSPC");
    }
    const error = await rejection(writeFileAtomic(join(dir, "file"), pieces()));
    expect(error).toMatchObject({ code: "DISK_FULL" });
    expect((error as QloraError).message).toContain(join(dir, "file"));
    expect(readFileSync(join(dir, "file"), "utf8")).toBe("old");
    expect(readdirSync(dir)).toEqual(["file"]);
  });

  test("several writers of one file in one process: one of them wins whole", async () => {
    const dir = folder();
    const texts = ["a".repeat(1e5), "b".repeat(1e5), "c".repeat(1e5)];
    await Promise.all(texts.map((text) => writeFileAtomic(join(dir, "file"), text)));
    expect(texts).toContain(readFileSync(join(dir, "file"), "utf8"));
    expect(readdirSync(dir)).toEqual(["file"]);
  });

  test("the system's refusals become one clear error each", async () => {
    const dir = folder();
    for (const [system, code] of [
      ["ENOSPC", "DISK_FULL"],
      ["EDQUOT", "DISK_FULL"],
      ["EACCES", "FILE_NOT_WRITABLE"],
      ["EROFS", "FILE_NOT_WRITABLE"],
      ["EIO", "FILE_WRITE_FAILED"],
    ] as const) {
      const error = await rejection(writeFolderAtomic(join(dir, "x"), () => Promise.reject(failure(system))));
      expect(error).toBeInstanceOf(QloraError);
      expect(error).toMatchObject({ code });
      expect((error as QloraError).hint).toBeString();
    }
    writeFileSync(join(dir, "plain"), "");
    expect(await rejection(writeFileAtomic(join(dir, "plain", "below"), ""))).toMatchObject({
      code: "FILE_WRITE_FAILED",
    });
    // A failure that is not the system's stays what it is.
    expect(
      await rejection(writeFolderAtomic(join(dir, "x"), () => Promise.reject(new TypeError("mine")))),
    ).toBeInstanceOf(TypeError);
    expect(readdirSync(dir)).toEqual(["plain"]);
  });
});

describe("writeFolderAtomic", () => {
  const fill = (text: string) => async (dir: string) => {
    mkdirSync(join(dir, "sub"));
    writeFileSync(join(dir, "file"), text);
    writeFileSync(join(dir, "sub", "file"), text);
  };

  test("the folder appears whole, and replaces one that was there", async () => {
    const dir = folder();
    const path = join(dir, "checkpoint-10");
    await writeFolderAtomic(path, async (temporary) => {
      expect(temporary).toBe(`${path}.tmp-${process.pid}`);
      await fill("one")(temporary);
      expect(existsSync(path)).toBe(false);
    });
    writeFileSync(join(path, "stale"), "");
    await writeFolderAtomic(path, fill("two"));
    expect(readdirSync(dir)).toEqual(["checkpoint-10"]);
    expect(readdirSync(path).toSorted()).toEqual(["file", "sub"]);
    expect(readFileSync(join(path, "sub", "file"), "utf8")).toBe("two");
  });

  test("a writer killed in the middle leaves no folder, and the next save removes what it left", async () => {
    const dir = folder();
    await writeFolderAtomic(join(dir, "checkpoint-10"), fill("kept"));
    const script = `
      import { writeFolderAtomic } from ${JSON.stringify(join(import.meta.dir, "../../runtime/files/files.ts"))};
      await writeFolderAtomic(${JSON.stringify(join(dir, "checkpoint-20"))}, async (temporary) => {
        await Bun.write(temporary + "/half", "half");
        process.kill(process.pid, "SIGKILL");
      });`;
    const child = Bun.spawnSync([process.execPath, "-e", script]);
    expect(child.signalCode).toBe("SIGKILL");
    expect(readdirSync(dir).toSorted()).toEqual(["checkpoint-10", expect.stringMatching(/^checkpoint-20\.tmp-\d+$/)]);
    await writeFolderAtomic(join(dir, "checkpoint-30"), fill("next"));
    expect(readdirSync(dir).toSorted()).toEqual(["checkpoint-10", "checkpoint-30"]);
    expect(readFileSync(join(dir, "checkpoint-10", "file"), "utf8")).toBe("kept");
  });

  test("folders of live writers, and of other names, are left alone", async () => {
    const dir = folder();
    const dead = Bun.spawnSync(["true"]).pid;
    const mine = [`checkpoint-5.tmp-${process.ppid}`, `other-5.tmp-${dead}`, `checkpoint-5.tmp-x`, "checkpoint-5"];
    for (const name of [...mine, `checkpoint-5.tmp-${dead}`, `checkpoint-7.tmp-${process.pid}`])
      mkdirSync(join(dir, name));
    await writeFolderAtomic(join(dir, "checkpoint-6"), fill(""));
    expect(readdirSync(dir).toSorted()).toEqual([...mine, "checkpoint-6"].toSorted());
  });

  test("a save does not sweep away another one that this process is in the middle of", async () => {
    const dir = folder();
    await writeFolderAtomic(join(dir, "checkpoint-10"), async (temporary) => {
      await writeFolderAtomic(join(dir, "checkpoint-20"), fill("inner"));
      await fill("outer")(temporary);
    });
    expect(readdirSync(dir).toSorted()).toEqual(["checkpoint-10", "checkpoint-20"]);
    expect(readFileSync(join(dir, "checkpoint-10", "file"), "utf8")).toBe("outer");
  });

  test("a folder whose writer died between its two renames is put back", async () => {
    const dir = folder();
    const dead = Bun.spawnSync(["true"]).pid;
    mkdirSync(join(dir, `checkpoint-5.old-${dead}`));
    writeFileSync(join(dir, `checkpoint-5.old-${dead}`, "file"), "kept");
    await writeFolderAtomic(join(dir, "checkpoint-6"), fill(""));
    expect(readFileSync(join(dir, "checkpoint-5", "file"), "utf8")).toBe("kept");
  });
});
