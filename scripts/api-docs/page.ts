/** docs/api.html: every export in one file, with a search box; it asks for nothing else. */
import { join } from "node:path";
import { type ApiExport, type ApiModule, grouped } from "./model.ts";

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escape = (text: string): string => text.replace(/[&<>"]/g, (character) => ESCAPES[character]!);

/** Paragraphs, `code` and fenced blocks of a comment. */
function prose(text: string): string {
  return text
    .split(/(```[\s\S]*?```)/)
    .map((part) => {
      const fenced = /^```\w*\n([\s\S]*?)\n```$/.exec(part);
      if (fenced !== null) return code(fenced[1]!);
      return part
        .split(/\n{2,}/)
        .filter((paragraph) => paragraph.trim() !== "")
        .map((paragraph) => `<p>${inline(paragraph.trim())}</p>`)
        .join("");
    })
    .join("");
}

const inline = (text: string): string => escape(text).replace(/`([^`]+)`/g, "<code>$1</code>");
const code = (text: string): string => `<pre tabindex="0"><code>${escape(text)}</code></pre>`;
const id = (module: string, name: string): string => `${module.replace("/", ".")}.${name}`;

function article(module: string, item: ApiExport): string {
  const { name, kind, summary, signature, parameters, returns, throws, examples, source } = item;
  const notes = [
    ...parameters.map((parameter) => `<dt><code>${parameter.name}</code></dt><dd>${inline(parameter.text)}</dd>`),
    ...(returns === "" ? [] : [`<dt>Returns</dt><dd>${inline(returns)}</dd>`]),
    ...throws.map((text) => `<dt>Throws</dt><dd>${inline(text)}</dd>`),
  ];
  return `<article id="${id(module, name)}">
<h3><a href="#${id(module, name)}">${name}</a> <small>${kind}</small></h3>
${prose(summary)}
${code(signature)}
${notes.length === 0 ? "" : `<dl>${notes.join("")}</dl>`}
${examples.map((example) => `<h4>Example</h4>${prose(example)}`).join("")}
<p class="source"><a href="../${source}">${source}</a></p>
</article>`;
}

function section(module: ApiModule): string {
  const groups = grouped(module).map(
    ([title, members]) =>
      `<section><h2>${title} of <code>${module.name}</code></h2>\n${members.map((item) => article(module.name, item)).join("\n")}</section>`,
  );
  return `<section><header id="${module.name.replace("/", ".")}"><h1><code>${module.name}</code></h1>
${prose(module.summary)}${module.examples.map(prose).join("")}</header>
${groups.join("\n")}</section>`;
}

function navigation(module: ApiModule): string {
  const links = grouped(module).flatMap(([, members]) =>
    members.map(({ name }) => `<li><a href="#${id(module.name, name)}">${name}</a></li>`),
  );
  return `<section><h2><a href="#${module.name.replace("/", ".")}">${module.name}</a></h2><ul>${links.join("")}</ul></section>`;
}

/** The page of all modules. */
export async function apiPage(modules: readonly ApiModule[], version: string): Promise<string> {
  const [css, script] = await Promise.all(
    ["page.css", "search.client.js"].map((file) => Bun.file(join(import.meta.dir, file)).text()),
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>qlora ${version}: API</title>
<link rel="icon" href="data:,">
<style>
${css}</style>
</head>
<body>
<!-- Written by bun run docs from the comments in the source; change them there. -->
<aside>
<label for="search">Search the API of qlora ${version}</label>
<input id="search" type="search" placeholder="name, type or word" autocomplete="off" spellcheck="false">
<p id="count" role="status"></p>
<nav aria-label="Exports">${modules.map(navigation).join("")}</nav>
</aside>
<main>
<p id="nothing" hidden>Nothing here has all of these words.</p>
${modules.map(section).join("\n")}
</main>
<script>
${script}</script>
</body>
</html>
`;
}
