/** Who may download, over which network, with which settings of the environment. */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { version } from "../../core/util/version.ts";
import type { RunEvent } from "../../runtime/events.ts";
import { dotEnvNames } from "../../runtime/hub/dotenv.ts";
import { hubEnvironment } from "../../runtime/hub/index.ts";
import { failure, hubTest, ID, resolve, root, server, TOKEN, useHub } from "./hub-model.ts";

useHub();

describe("who may", () => {
  hubTest.each([
    [
      { status: 401, code: "GatedRepo" },
      undefined,
      "HUB_GATED",
      /gated on 127/,
      /Accept its terms at .*tiny\/gemma2-nf4, then set HF_TOKEN/,
    ],
    [
      { status: 403, code: "GatedRepo" },
      TOKEN,
      "HUB_GATED",
      /the account of this token has no access/,
      /use a token of that account/,
    ],
    [
      { status: 401, code: "RepoNotFound" },
      undefined,
      "HUB_NOT_FOUND",
      /knows no model tiny\/gemma2-nf4, or it is private/,
      /HF_TOKEN/,
    ],
    [{ status: 401 }, TOKEN, "HUB_TOKEN_REFUSED", /does not accept the token/, /log in again/],
    [{ status: 403 }, TOKEN, "HUB_FORBIDDEN", /does not let this token read/, /right to read/],
    [{ status: 404, code: "RepoNotFound" }, undefined, "HUB_NOT_FOUND", /knows no model/, /spelling/],
    [{ status: 418 }, undefined, "HUB_FAILED", /answered 418/, /later/],
  ] as const)("%j with token %p", async (refuse, token, code, message, hint) => {
    server.misbehaviour.refuse = refuse;
    const error = await failure(resolve({}, { token }));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain("\n");
    expect(error.hint).toMatch(hint);
  });

  hubTest("the token goes to the hub alone, not to where it redirects, and into no file", async () => {
    const { directory } = await resolve({}, { token: TOKEN });
    const [toHub, toCdn] = (["hub", "cdn"] as const).map((host) =>
      server.requests.filter((request) => request.host === host),
    );
    expect(toHub!.length).toBeGreaterThan(7);
    expect(toHub!.every(({ authorization }) => authorization === `Bearer ${TOKEN}`)).toBe(true);
    expect(toCdn!.length).toBe(2);
    expect(toCdn!.every(({ authorization }) => authorization === undefined)).toBe(true);
    expect(readdirSync(directory).some((name) => readFileSync(join(directory, name)).includes(TOKEN))).toBe(false);
  });

  hubTest("a gated model is not served from the cache of its name", async () => {
    await resolve();
    server.misbehaviour.refuse = { status: 403, code: "GatedRepo" };
    expect(await failure(resolve())).toMatchObject({ code: "HUB_GATED" });
  });
});

describe("the network", () => {
  hubTest("down, and the reference is cached: the cache is used, and said so", async () => {
    const first = await resolve();
    await server.stop();
    const events: RunEvent[] = [];
    expect(await resolve({ onEvent: (event) => events.push(event) })).toMatchObject(first);
    expect(events).toMatchObject([
      {
        type: "warning",
        message: expect.stringMatching(/cannot be reached.*using tiny\/gemma2-nf4 as cached, commit 5a3f0a0/),
      },
    ]);
  });

  hubTest("down, and nothing is cached", async () => {
    await server.stop();
    const error = await failure(resolve());
    expect(error).toMatchObject({
      code: "HUB_UNREACHABLE",
      message: expect.stringMatching(/cannot be reached for tiny\/gemma2-nf4 \(ECONNREFUSED\)/),
    });
    expect(error.hint).toContain("HF_ENDPOINT");
  });

  hubTest("something that is not the hub", async () => {
    using page = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("<html>sign in</html>") });
    expect(await failure(resolve({}, { endpoint: page.url.origin }))).toMatchObject({
      code: "HUB_FAILED",
      message: expect.stringContaining("does not answer as the hub"),
    });
  });

  hubTest("HTTP_PROXY is used, and NO_PROXY spares", async () => {
    const seen: string[] = [];
    using proxy = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (request) => {
        seen.push(new URL(request.url).pathname);
        return fetch(request.url, { method: request.method, redirect: "manual" });
      },
    });
    const script = join(import.meta.dir, "fixtures", "download.ts");
    const env = { ...process.env, HF_ENDPOINT: server.url, HTTP_PROXY: proxy.url.origin, http_proxy: proxy.url.origin };
    const run = (more: Record<string, string>): Promise<number> =>
      Bun.spawn([process.execPath, script, ID, "config"], {
        env: { ...env, HF_HUB_CACHE: mkdtempSync(join(root, "cache-")), ...more },
      }).exited;
    expect(await run({ NO_PROXY: "127.0.0.1", no_proxy: "127.0.0.1" })).toBe(0);
    expect(seen).toEqual([]);
    expect(await run({ NO_PROXY: "", no_proxy: "" })).toBe(0);
    expect(seen).toContain(`/api/models/${ID}/revision/main`);
  });
});

describe("the environment", () => {
  test("HF_ENDPOINT, HF_TOKEN, the caches, offline", () => {
    const home = mkdtempSync(join(root, "home-"));
    expect(hubEnvironment({ HF_HOME: home })).toMatchObject({
      endpoint: "https://huggingface.co",
      token: undefined,
      cacheDir: join(home, "hub"),
      offline: false,
    });
    expect(hubEnvironment({ HF_HOME: home, HF_HUB_CACHE: "/c", HF_ENDPOINT: "https://mirror.example/" })).toMatchObject(
      { cacheDir: "/c", endpoint: "https://mirror.example" },
    );
    expect(hubEnvironment({ XDG_CACHE_HOME: "/x", HF_TOKEN: ` ${TOKEN}\n`, HF_HUB_OFFLINE: "1" })).toMatchObject({
      cacheDir: "/x/huggingface/hub",
      token: TOKEN,
      offline: true,
    });
    writeFileSync(join(home, "token"), `${TOKEN}\n`);
    expect(hubEnvironment({ HF_HOME: home }).token).toBe(TOKEN);
    expect(hubEnvironment({ HF_HOME: home, HF_TOKEN: "hf_other" }).token).toBe("hf_other");
  });

  const HOSTILE = "https://elsewhere.example";
  const dotEnv = (...names: string[]): Map<string, string> => new Map(names.map((name) => [name, ".env"]));
  test("a stored token does not go where a .env file directs", () => {
    const home = mkdtempSync(join(root, "home-"));
    writeFileSync(join(home, "token"), TOKEN);
    for (const env of [{ HF_HOME: home }, { HF_HOME: home, HF_TOKEN: TOKEN }]) {
      const given = { ...env, HF_ENDPOINT: HOSTILE };
      expect(hubEnvironment(given)).toMatchObject({ endpoint: HOSTILE, token: TOKEN });
      expect(hubEnvironment(given, dotEnv("HF_ENDPOINT"))).toMatchObject({
        endpoint: HOSTILE,
        token: undefined,
        notes: [
          `HF_ENDPOINT ${HOSTILE} comes from .env of this folder: your token is not sent there; set the variable in the environment to send it`,
        ],
      });
      for (const name of ["HTTPS_PROXY", "https_proxy", "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_EXTRA_CA_CERTS"]) {
        const { token, notes } = hubEnvironment({ ...env, [name]: "1" }, dotEnv(name));
        expect({ token, notes }).toMatchObject({
          token: undefined,
          notes: [expect.stringContaining(`${name} comes from`)],
        });
      }
    }
    const own = { HF_HOME: home, HF_TOKEN: "hf_own", HF_ENDPOINT: HOSTILE };
    expect(hubEnvironment(own, dotEnv("HF_ENDPOINT", "HF_TOKEN")).token).toBe("hf_own");
    expect(hubEnvironment({ HF_HOME: home, HF_TOKEN: "hf_own" }, dotEnv("HF_TOKEN"))).toMatchObject({
      token: "hf_own",
    });
  });

  test("which variables a .env file set, and which the process was started with", () => {
    const folder = mkdtempSync(join(root, "env-"));
    writeFileSync(join(folder, ".env"), "A=1\r\n  export B = 2\n# C=3\nD: 4\nE=5");
    writeFileSync(join(folder, ".env.local"), "A=2\nF=6");
    writeFileSync(join(folder, ".env.production"), "G=7");
    const env = { A: "2", B: "2", C: "3", D: "4", E: "5", F: "6", G: "7" };
    expect(dotEnvNames(env, folder, new Set(["E", "PATH"]))).toEqual(
      new Map([
        ["A", ".env.local"],
        ["B", ".env"],
        ["D", ".env"],
        ["F", ".env.local"],
      ]),
    );
    expect(dotEnvNames({ ...env, NODE_ENV: "production" }, folder, new Set()).get("G")).toBe(".env.production");
  });

  hubTest("a process in a folder with a .env: said, and no token leaves", async () => {
    const folder = mkdtempSync(join(root, "folder-"));
    writeFileSync(join(folder, ".env"), `HF_ENDPOINT=${server.url}\n`);
    const script = join(import.meta.dir, "fixtures", "download.ts");
    const { HF_ENDPOINT: _, ...environment } = process.env;
    const run = async (more: Record<string, string>): Promise<string> => {
      const env = { ...environment, HF_TOKEN: TOKEN, HF_HUB_CACHE: mkdtempSync(join(root, "cache-")), ...more };
      const child = Bun.spawn([process.execPath, script, ID, "config"], { cwd: folder, env, stdout: "pipe" });
      expect(await child.exited).toBe(0);
      return new Response(child.stdout).text();
    };
    expect(await run({})).toContain(`HF_ENDPOINT ${server.url} comes from .env of this folder: your token is not sent`);
    expect(server.requests.length).toBeGreaterThan(0);
    expect(server.requests.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
    expect(await run({ HF_ENDPOINT: server.url })).toBe("");
    expect(server.requests.some(({ authorization }) => authorization === `Bearer ${TOKEN}`)).toBe(true);
  });

  test.skipIf(process.platform === "win32")(
    "the command itself reads no .env and runs no preload of its folder",
    () => {
      const folder = mkdtempSync(join(root, "folder-"));
      writeFileSync(join(folder, ".env"), "HF_ENDPOINT=http://127.0.0.1:9\nQLORA_SEEN=1\n");
      writeFileSync(join(folder, "bunfig.toml"), 'preload = ["./preload.ts"]\n');
      writeFileSync(join(folder, "preload.ts"), 'require("fs").writeFileSync("ran", process.env.QLORA_SEEN ?? "");');
      const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env["PATH"]}` };
      const start = (command: string[]): string => Bun.spawnSync(command, { cwd: folder, env }).stdout.toString();
      const command = join(import.meta.dir, "..", "..", "cli", "main.ts");
      expect(start([command, "--version"])).toBe(`${version}\n`);
      expect(existsSync(join(folder, "ran"))).toBe(false);
      // What the flags keep off, as the same folder shows without them.
      start([process.execPath, command, "--version"]);
      expect(readFileSync(join(folder, "ran"), "utf8")).toBe("1");
    },
  );

  test("an endpoint that is no address is said", async () => {
    const error = await failure(resolve({}, { endpoint: "mirror.example" }));
    expect(error).toMatchObject({ code: "HUB_ENDPOINT_INVALID", message: expect.stringContaining("HF_ENDPOINT") });
  });
});
