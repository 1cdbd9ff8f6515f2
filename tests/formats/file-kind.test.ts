/** Files that are not what they are taken for are known by their first bytes. */
import { describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { DataError, ModelError } from "../../core/errors.ts";
import { parseJsonObject } from "../../core/formats/json-object.ts";
import { loadDataset } from "../../runtime/data/dataset.ts";
import { openSafetensors } from "../../runtime/files/folder.ts";
import { tempDir, tempFile } from "../data/files.ts";

const csv = "text,label\na,0\nb,1\n";
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");
const utf16 = Buffer.from(csv, "utf16le");
const wide = (text: string): Buffer =>
  Buffer.concat(Array.from(Buffer.from(text), (byte) => Buffer.from([byte, 0, 0, 0])));
const lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

// Of each: the file, what it is called, and a word of the hint for data and for weights.
const files: readonly (readonly [string, Uint8Array, string, string, string])[] = [
  ["parquet", bytes("50415231 15 04 15 ff 80"), "a Parquet file", "does not end", "safe_serialization=True"],
  ["feather", bytes("4152524f5731 0000 ff"), "an Arrow or Feather file", "read_feather", "safetensors"],
  ["zstd", bytes("28b52ffd 04 58"), "a zstd archive", "unzstd ", "unzstd "],
  ["git-lfs pointer", Buffer.from(lfs), "a pointer of git-lfs, not the file itself", "git lfs pull", "git lfs pull"],
  ["page", Buffer.from("\n<!-- x -->\n<!DOCTYPE html>\n<html><title>Sign in</title>"), "a web page (HTML)", "Download", "HF_TOKEN"],
  ["page without a type", Buffer.from('<html lang="en">'), "a web page (HTML)", "Download", "Download"],
  ["pickle", bytes("80 04 95 1c 00 00 00 00 00 00 00 7d"), "a Python pickle", "read_pickle", "may run code"],
  ["torch.save", Buffer.concat([bytes("504b0304 0000 0808"), Buffer.from("\0\0archive/data.pklFB")]), "a Python pickle", "read_pickle", "safe_serialization"],
  ["workbook of old", bytes("d0cf11e0a1b11ae1"), "an old Excel workbook", "read_excel", "Download"],
]; // prettier-ignore

const caught = async (run: () => Promise<unknown>): Promise<unknown> => {
  try {
    return await run();
  } catch (error) {
    return error;
  }
};

describe("told by first bytes", () => {
  test.each(files)("%s as data and as weights", async (_, content, name, dataHint, weightsHint) => {
    for (const end of ["csv", "jsonl"]) {
      const file = tempFile(`rows.${end}`, content);
      const error = (await caught(() => loadDataset(file))) as DataError;
      expect(error).toMatchObject({
        code: "DATA_FILE_KIND",
        message: `${file}: is ${name}, expected a CSV, JSON, JSONL or Parquet file`,
      });
      expect(error.hint).toContain(dataHint);
    }
    const weights = tempFile("model.safetensors", content);
    const error = (await openSafetensors(weights).catch((refused: unknown) => refused)) as ModelError;
    expect(error).toMatchObject({
      code: "SAFETENSORS_INVALID",
      message: `${weights}: is ${name}, expected a safetensors file`,
    });
    expect(error.hint).toContain(weightsHint);
  });

  test.each([
    ["gzip", gzipSync(csv), "a gzip archive", "gunzip "],
    ["zip", bytes("504b0304 1400 0000 0800 ff"), "a zip archive", "unzip "],
  ])("%s as weights", async (_, content, name, hint) => {
    const weights = tempFile("model.safetensors", content);
    const error = (await openSafetensors(weights).catch((refused: unknown) => refused)) as ModelError;
    expect(error.message).toBe(`${weights}: is ${name}, expected a safetensors file`);
    expect(error.hint).toContain(hint);
  });

  test.each([
    ["with a mark", Buffer.concat([bytes("fffe"), utf16]), "UTF-16"],
    ["of the other order", Buffer.concat([bytes("feff"), Buffer.from(utf16).swap16()]), "UTF-16"],
    ["without a mark", utf16, "UTF-16LE"],
    ["of the other order without a mark", Buffer.from(utf16).swap16(), "UTF-16BE"],
    ["of four bytes", Buffer.concat([bytes("fffe0000"), wide(csv)]), "UTF-32"],
  ])("wide text %s", async (_, content, name) => {
    const file = tempFile("rows.csv", content);
    expect(await caught(() => loadDataset(file))).toMatchObject({
      message: `${file}:1: the text is not UTF-8 but ${name}`,
      hint: `Save it as UTF-8: iconv -f ${name} -t UTF-8 ${file} > rows.csv`,
    });
  });

  test("text that begins as another kind of file does is text", async () => {
    for (const name of ["PAR1", "GGUF", "BZh", "PK", "7z", "%PDF-"])
      expect((await loadDataset(tempFile("rows.csv", `${name},text\n1,a\n`))).rows.length).toBe(1);
    expect((await loadDataset(tempFile("rows.csv", '"<html>",text\n1,a\n'))).rows.length).toBe(1);
  });

  test("JSON files too; a pickle in the place of safetensors is told", async () => {
    const refuse = (problem: string): Error => new Error(problem);
    expect(() => parseJsonObject(lfs, refuse)).toThrow("is a pointer of git-lfs, not the file itself, not JSON");
    expect(() => parseJsonObject(Buffer.from("<html>"), refuse)).toThrow("is a web page (HTML), not JSON");
    expect(() => parseJsonObject("{", refuse)).toThrow("is not valid JSON");
    const dir = tempDir();
    writeFileSync(join(dir, "adapter_model.bin"), files.find(([name]) => name === "torch.save")![1]);
    const error = await openSafetensors(join(dir, "adapter_model.safetensors")).catch((refused: unknown) => refused);
    expect(error).toMatchObject({
      code: "SAFETENSORS_MISSING",
      hint: expect.stringContaining("safe_serialization=True"),
    });
    rmSync(dir, { recursive: true });
  });

  test("messages are bounded however long the line is", async () => {
    for (const line of [
      "x".repeat(8e6),
      `{"text":"${"y".repeat(8e6)}","input_ids":[1]}`,
      `{"text":[["${"z".repeat(8e6)}"]]}`,
    ]) {
      const error = (await caught(() => loadDataset(tempFile("rows.jsonl", line)))) as DataError;
      expect(error.message.length).toBeLessThan(1000);
    }
    const cell = `text,label\n"${"x".repeat(1e6)}",[\n`;
    expect(
      ((await caught(() => loadDataset(tempFile("rows.csv", `${cell}y`)))) as DataError).message.length,
    ).toBeLessThan(1000);
  }, 30_000);
});
