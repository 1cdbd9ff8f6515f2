/** Byte sources: the same checkpoint read from a folder, from an address that answers ranges, and from a Blob. */
import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ByteSource, compareBytes, isFileName, readText } from "../../core/formats/bytes.ts";
import { readSafetensors } from "../../core/formats/safetensors.ts";
import { openFolder, openSafetensors, writeFiles } from "../../runtime/files/folder.ts";
import { openAddress, openBlob } from "../../runtime/files/sources.ts";
import { goldenPath } from "../support/reference.ts";
import { temporaryFolder } from "../support/run.ts";
import { rejection } from "./support.ts";

const path = goldenPath("parity-tiny", "adapter", "adapter_model.safetensors");
const bytes = readFileSync(path);

/** A server that answers ranges as the web does, or with the whole file. */
function serve(ranges: boolean): { readonly url: string; stop(): void; asked: string[] } {
  const asked: string[] = [];
  const server = Bun.serve({
    port: 0,
    fetch(request) {
      const range = request.headers.get("range") ?? "";
      asked.push(range);
      const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
      if (!ranges || from === undefined) return new Response(bytes);
      const part = bytes.subarray(Number(from), Number(to) + 1);
      return new Response(part, { status: 206, headers: { "content-range": `bytes ${from}-${to}/${bytes.length}` } });
    },
  });
  return { url: `http://127.0.0.1:${server.port}/x.safetensors`, stop: () => void server.stop(true), asked };
}

async function everyTensor(source: ByteSource): Promise<Map<string, Uint8Array>> {
  await using file = await readSafetensors(source);
  const tensors = new Map<string, Uint8Array>();
  for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
  return tensors;
}

describe("a safetensors file", () => {
  test("reads the same from a folder, by ranges and from a Blob", async () => {
    const server = serve(true);
    try {
      const blob = openBlob("chosen.safetensors", new Blob([bytes]));
      const [remote, local] = [await everyTensor(await openAddress(server.url)), await everyTensor(blob)];
      await using file = await openSafetensors(path);
      expect(file.tensors.size).toBeGreaterThan(20);
      for (const [name, { begin, end }] of file.tensors) {
        const want = new Uint8Array(bytes.subarray(begin, end));
        expect(await file.read(name)).toEqual(want);
        expect(remote.get(name)).toEqual(want);
        expect(local.get(name)).toEqual(want);
      }
      expect(server.asked.every((range) => range.startsWith("bytes="))).toBe(true);
    } finally {
      server.stop();
    }
  });

  test("an address that gives the whole file for a range is refused", async () => {
    const server = serve(false);
    try {
      expect(await rejection(openAddress(server.url))).toMatchObject({
        message: `${server.url}: asked for bytes 0 to 0, got status 200, expected 206`,
      });
    } finally {
      server.stop();
    }
  });

  test("a source that ends early is told by name", async () => {
    const whole = openBlob("cut.safetensors", new Blob([bytes]));
    const cut: ByteSource = {
      ...whole,
      read: (offset, length) => whole.read(offset, Math.min(length, Math.max(0, 4000 - offset))),
    };
    expect(String(await rejection(everyTensor(cut)))).toContain("ends at byte 4000, inside what should be there");
  });
});

test("a folder says what it lacks, and writes names of files alone", async () => {
  await using folder = await temporaryFolder();
  writeFileSync(join(folder.path, "a.txt"), "\ufeffbyte order marks stay");
  const files = openFolder(`${folder.path}/`);
  expect(files.name).toBe(folder.path);
  expect(await readText(files, "a.txt")).toBe("\ufeffbyte order marks stay");
  expect([await files.has("a.txt"), await files.has("b.txt")]).toEqual([true, false]);
  expect(await files.open("b.txt")).toBeUndefined();
  expect(String(await rejection(openFolder(join(folder.path, "..")).open(folder.path.split("/").at(-1)!)))).toContain(
    "not a file",
  );
  for (const name of ["../out.txt", "a/b", "", ".."]) {
    expect(isFileName(name)).toBe(false);
    expect(String(await rejection(writeFiles(folder.path, [[name, "x"]])))).toContain("expected the name of a file");
  }
});

test("texts are ordered by their UTF-8 bytes, as Python orders str", () => {
  // By UTF-16 units the emoji (U+1F600, units d83d de00) would come before U+FF5E.
  const names = ["b", "a", "\u{1F600}", "\uff5e", "ab", "é"];
  expect(names.toSorted(compareBytes)).toEqual(["a", "ab", "b", "é", "\uff5e", "\u{1F600}"]);
});
