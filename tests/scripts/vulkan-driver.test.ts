import { describe, expect, test } from "bun:test";
import { backportsSource, parseDeb822, parseList } from "../../scripts/vulkan-driver.mjs";

const deb822 = `# a comment
Types: deb deb-src
# http://old.example/archive
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
`;
const list = `# deb http://commented.example/debian bookworm main
deb-src http://src.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/x.gpg] http://signed.example/debian bookworm main contrib
deb http://plain.example/debian bookworm-updates main
`;

describe("the backports source is copied from the machine's own", () => {
  test("deb822: the stanza of the suite, without disabled ones", () => {
    expect(backportsSource(parseDeb822(deb822), "bookworm")).toBe(
      "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian.gpg\n",
    );
    expect(parseDeb822(deb822)).toHaveLength(2);
  });

  test("one-line lists: options, comments and sources are told apart", () => {
    expect(backportsSource(parseList(list), "bookworm")).toBe(
      "Types: deb\nURIs: http://signed.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /etc/apt/keyrings/x.gpg\n",
    );
    expect(backportsSource(parseList(list), "bookworm-updates")).not.toContain("Signed-By");
  });

  test("a machine without the suite gives nothing", () => {
    expect(backportsSource(parseList(list), "trixie")).toBeUndefined();
  });
});
