// Reads the exports of the entry points with TypeDoc; prints them as JSON: `bun extract.mjs > api.json`.
import { readFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import ts from "typescript";
import { Application, ReferenceReflection, ReflectionKind } from "typedoc";

const root = resolve(import.meta.dirname, "../..");
const ENTRIES = [
  ["qlora", "index.ts"],
  ["qlora/core", "core/index.ts"],
  ["qlora/kernels", "kernels/index.ts"],
  ["qlora/plugins", "plugins/index.ts"],
  ["qlora/testing", "testing/index.ts"],
];

const app = await Application.bootstrap({
  entryPoints: ENTRIES.map(([, file]) => join(root, file)),
  tsconfig: join(root, "tsconfig.json"),
  basePath: root,
  readme: "none",
  skipErrorChecking: true, // the project's own compiler checks it
  disableGit: true,
  sourceLinkTemplate: "{path}",
  logLevel: "Error",
});
/** Declarations of what TypeDoc found; it keeps no source text itself. */
const declarations = new Map();
app.converter.on("createDeclaration", (context, reflection) => {
  const symbol = context.getSymbolFromReflection(reflection);
  if (symbol?.declarations !== undefined) declarations.set(reflection, [symbol.declarations, context.checker]);
});
const project = await app.convert();
if (project === undefined) throw new Error("TypeDoc found nothing");

const FORMAT = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.InTypeAlias;
const textOf = (parts) =>
  (parts ?? [])
    .map((part) => (part.kind === "inline-tag" ? `\`${part.text}\`` : part.text))
    .join("")
    .trim();
/** Text of a node up to its body. */
const head = (node) =>
  node
    .getSourceFile()
    .text.slice(node.getStart(), node.body?.getStart() ?? node.getEnd())
    .replace(/=>\s*$/, "")
    .trim();
const docOf = (node) => (node.jsDoc ?? []).map((doc) => doc.getText()).join("\n");
const isHidden = (member) =>
  (member.name !== undefined && ts.isPrivateIdentifier(member.name)) ||
  (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Private) !== 0;

/** Comments keep the indentation of their file; members stand two spaces in. */
const indented = (text) =>
  text
    .split("\n")
    .map((line, i) => (i === 0 ? `  ${line}` : line))
    .join("\n");

function classText(node, checker) {
  const heritage = (node.heritageClauses ?? []).map((clause) => ` ${clause.getText()}`).join("");
  const parameters =
    node.typeParameters === undefined ? "" : `<${node.typeParameters.map((p) => p.getText()).join(", ")}>`;
  const members = node.members
    .filter((member) => !isHidden(member))
    .map((member) => {
      const doc = docOf(member);
      const untyped = ts.isPropertyDeclaration(member) && member.type === undefined;
      const text = untyped
        ? `${member.name.getText()}: ${checker.typeToString(checker.getTypeAtLocation(member), member, FORMAT)}`
        : head(member);
      return [doc, text.replace(/;?$/, ";")]
        .filter((part) => part !== "")
        .map(indented)
        .join("\n");
    });
  return `class ${node.name.text}${parameters}${heritage} {\n${members.join("\n")}\n}`;
}

function variableText(node, checker) {
  const { initializer } = node;
  if (node.type !== undefined) return `const ${node.name.getText()}: ${node.type.getText()}`;
  if (initializer !== undefined && ts.isArrowFunction(initializer)) {
    return `const ${node.name.getText()} = ${head(initializer)}`;
  }
  const called = initializer !== undefined && ts.isCallExpression(initializer) ? initializer.expression.getText() : "";
  if (/^define(Model|Adapter|Optimizer|Metric|Reporter|Schedule)$/.test(called))
    return pluginText(node, checker, called.slice(6));
  return `const ${node.name.getText()}: ${checker.typeToString(checker.getTypeAtLocation(node), node, FORMAT)}`;
}

/** A plugin as it is called: its options with their types. */
function pluginText(node, checker, kind) {
  const [signature] = checker.getTypeAtLocation(node).getCallSignatures();
  const rest = checker.getTypeOfSymbol(signature.parameters[0]);
  const [argument] = checker.getTypeArguments(rest);
  const optional = (rest.target.elementFlags?.[0] & ts.ElementFlags.Optional) !== 0;
  const lines = checker
    .getNonNullableType(argument)
    .getProperties()
    .map((property) => {
      const mark = (property.flags & ts.SymbolFlags.Optional) !== 0;
      const type = checker.typeToString(checker.getTypeOfSymbol(property), node, FORMAT);
      return `  ${property.name}${mark ? "?" : ""}: ${mark ? type.replace(" | undefined", "") : type};`;
    });
  const body = lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n}`;
  return `${node.name.getText()}(options${optional ? "?" : ""}: ${body}): ${kind}Plugin`;
}

function signatureOf(reflection) {
  const [nodes, checker] = declarations.get(reflection) ?? [[]];
  const overloads = nodes.filter((node) => ts.isFunctionDeclaration(node) && node.body === undefined);
  const shown = overloads.length > 0 ? overloads : nodes;
  return shown
    .map((node) => {
      if (ts.isClassDeclaration(node)) return classText(node, checker);
      if (ts.isVariableDeclaration(node)) return variableText(node, checker);
      return head(node)
        .replace(/^export (default )?/, "")
        .replace(/;$/, "");
    })
    .join("\n");
}

function describe(child) {
  const target = child instanceof ReferenceReflection ? child.getTargetReflectionDeep() : child;
  const comment = target.comment ?? target.signatures?.[0]?.comment;
  const parameters = (target.signatures?.[0]?.parameters ?? [])
    .map(({ name, comment: said }) => ({ name, text: textOf(said?.summary) }))
    .filter(({ text }) => text !== "");
  const blocks = (tag) =>
    (comment?.blockTags ?? []).filter((block) => block.tag === tag).map((block) => textOf(block.content));
  return {
    name: child.name,
    kind: ReflectionKind.singularString(target.kind).toLowerCase(),
    summary: textOf(comment?.summary),
    signature: signatureOf(target),
    parameters,
    returns: blocks("@returns")[0] ?? "",
    throws: blocks("@throws"),
    examples: blocks("@example"),
    source: relative(root, target.sources?.[0]?.fullFileName ?? ""),
  };
}

const modules = ENTRIES.map(([name, file]) => {
  const found = project.children.find(
    (child) => child.sources?.[0]?.fileName.endsWith(file) && child.name === file.replace(/(\/index)?\.ts$/, ""),
  );
  if (found === undefined)
    throw new Error(`TypeDoc has no module for ${file}: ${project.children.map((c) => c.name).join(", ")}`);
  const [, comment = ""] = /^\/\*\*([\s\S]*?)\*\//m.exec(readFileSync(join(root, file), "utf8")) ?? [];
  const [summary, ...examples] = comment.replaceAll(/^ *\* ?/gm, "").split("@example");
  const exports = found.children.map(describe).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return {
    name,
    summary: summary.trim(),
    examples: examples.map((text) => `\`\`\`ts\n${text.trim()}\n\`\`\``),
    exports,
  };
});
process.stdout.write(`${JSON.stringify(modules, null, 1)}\n`);
