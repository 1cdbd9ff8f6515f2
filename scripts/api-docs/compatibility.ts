/** docs/compatibility.md: what stands for each argument of transformers' TrainingArguments and peft's LoraConfig. */
import { type TheirArguments, theirArguments, type TheirName } from "../../core/util/their-names.ts";
import { markdownTable } from "./option-tables.ts";

/** Where the page stands, from the root. */
export const COMPATIBILITY = "docs/compatibility.md";

const camel = (name: string): string => name.replaceAll(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** What the second column says. */
function answer({ name, ours }: TheirName): string {
  if (ours === undefined) return "not here";
  return ours.split(".")[1] === camel(name) ? `same: \`${ours}\`` : `\`${ours}\``;
}

function section({ library, version, className, names }: TheirArguments): string {
  const counts = [
    names.filter((name) => answer(name).startsWith("same")).length,
    names.filter((name) => answer(name).startsWith("`")).length,
    names.filter(({ ours }) => ours === undefined).length,
  ];
  const rows = names.map((name) => [`\`${name.name}\``, answer(name), name.note ?? ""]);
  return `## ${className} of ${library} ${version}

${counts[0]} by the same name in camelCase, ${counts[1]} by another, ${counts[2]} not here.

${markdownTable([["argument", "here", "what is different, or what to do instead"], ...rows])}`;
}

/** The page as the file has it. */
export function compatibilityPage(): string {
  const intro = `# From transformers and peft

<!-- written by bun run docs from core/util/their-names.ts -->

What stands here for every argument of transformers' \`TrainingArguments\` and peft's \`LoraConfig\`. \`training.learningRate\` is \`--learning-rate\` on the
command line and \`training: { learningRate }\` in a config; \`adapter.rank\` is \`--adapter.rank\` and \`lora({ rank })\`. Whoever writes one of their names gets the
same answer as an error.`;
  return `${[intro, ...theirArguments.map(section)].map((part) => part.trimEnd()).join("\n\n")}\n`;
}
