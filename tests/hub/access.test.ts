/** Who may download, over which network, with which settings of the environment. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { RunEvent } from "../../core/events.ts";
import { hubEnvironment } from "../../core/hub/index.ts";
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
});
