/** The server of a folder: ranges, and nothing outside it. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { writeFileAtomic } from "../../runtime/files/files.ts";
import { openAddress } from "../../runtime/files/sources.ts";
import { type FolderServer, serveFolder } from "../../runtime/http/folder.ts";
import { temporaryFolder } from "../support/run.ts";

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let server: FolderServer;

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFileAtomic(join(folder.path, "site/index.html"), "<p>hello");
  await writeFileAtomic(join(folder.path, "site/a b.bin"), "0123456789");
  await writeFileAtomic(join(folder.path, "secret"), "no");
  server = await serveFolder(join(folder.path, "site"), { port: 0 });
});
afterAll(async () => {
  await server.stop();
  await folder[Symbol.asyncDispose]();
});

const get = async (path: string, range?: string) => {
  const response = await fetch(`${server.url}${path}`, { headers: range === undefined ? {} : { range } });
  return [response.status, await response.text(), response.headers.get("content-range")] as const;
};

test("files, whole and by ranges", async () => {
  expect(await get("")).toEqual([200, "<p>hello", null]);
  expect(await get("a%20b.bin")).toEqual([200, "0123456789", null]);
  expect(await get("a%20b.bin", "bytes=2-4")).toEqual([206, "234", "bytes 2-4/10"]);
  expect(await get("a%20b.bin", "bytes=8-99")).toEqual([206, "89", "bytes 8-9/10"]);
  expect(await get("a%20b.bin", "bytes=-3")).toEqual([206, "789", "bytes 7-9/10"]);
  expect(await get("a%20b.bin", "bytes=10-")).toEqual([416, "", "bytes */10"]);
  expect(await get("a%20b.bin", "bytes=0-1,3-4")).toEqual([200, "0123456789", null]);
  const source = await openAddress(`${server.url}a%20b.bin`);
  expect([source.size, new TextDecoder().decode(await source.read(3, 4))]).toEqual([10, "3456"]);
});

test("nothing outside the folder, and nobody from elsewhere", async () => {
  for (const path of ["..%2fsecret", "%2e%2e/secret", "missing", "%ff", "%00", ""])
    expect((await get(path))[1], path).not.toBe("no");
  expect((await get("..%2fsecret"))[0]).toBe(404);
  expect((await get("%ff"))[0]).toBe(404);
  expect((await fetch(server.url, { method: "POST" })).status).toBe(405);
  expect((await fetch(server.url, { headers: { host: "evil.example" } })).status).toBe(403);
});
