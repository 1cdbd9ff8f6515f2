import { type ApiExport, type ApiModule, grouped, shortName } from "./model.ts";

const NOTE = "<!-- Written by `bun run docs` from the comments in the source; change them there. -->\n";

/** docs/api/<entry>.md. */
export function moduleMarkdown(module: ApiModule): string {
  const parts = [NOTE, `# \`${module.name}\`\n`, `${module.summary}\n`, ...module.examples.map((code) => `${code}\n`)];
  for (const [title, members] of grouped(module)) {
    parts.push(`## ${title}\n`, `${members.map(({ name }) => `[\`${name}\`](#${anchor(name)})`).join(" · ")}\n`);
    parts.push(...members.map(exportMarkdown));
  }
  return parts.join("\n");
}

/** docs/api/README.md: the entry points. */
export function indexMarkdown(modules: readonly ApiModule[]): string {
  const rows = modules.map(({ name, summary, exports }) => {
    const [sentence] = summary.replaceAll("\n", " ").split(/(?<=\.) |(?<=: )/);
    return `- [\`${name}\`](${shortName(name)}.md), ${exports.length} exports: ${sentence!.replace(/[:.]\s*$/, "")}.`;
  });
  return [
    NOTE,
    "# API\n",
    rows.join("\n"),
    "",
    "Shapes in comments: N packed tokens, B samples, L classes, C hidden, H heads, K key/value heads, D head dimension,",
    "F intermediate, V vocabulary, R rank; `[N,C] f32 -> [N,F] f16` reads a tensor and gives another. Gradients are `dX`.",
    "",
  ].join("\n");
}

const anchor = (name: string): string => name.toLowerCase();

function exportMarkdown(item: ApiExport): string {
  const { name, summary, signature, parameters, returns, throws, examples, source } = item;
  return [
    `### ${name}\n`,
    `${summary}\n`,
    `\`\`\`ts\n${signature}\n\`\`\`\n`,
    ...parameters.map((parameter) => `- \`${parameter.name}\`: ${oneLine(parameter.text)}`),
    ...(returns === "" ? [] : [`- Returns ${oneLine(returns)}`]),
    ...throws.map((text) => `- Throws ${oneLine(text)}`),
    ...(parameters.length + throws.length + returns.length > 0 ? [""] : []),
    ...examples.map((code) => `Example:\n\n${code}\n`),
    `Source: [${source}](../../${source})\n`,
  ].join("\n");
}

const oneLine = (text: string): string => text.replaceAll("\n", " ");
