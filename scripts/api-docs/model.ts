/** What docs/api-generator/extract.mjs prints: the exports of the entry points with their comments. */

/** One export. */
export interface ApiExport {
  readonly name: string;
  /** `function`, `interface`, `class`, `type alias` or `variable`. */
  readonly kind: string;
  readonly summary: string;
  /** TypeScript, without bodies. */
  readonly signature: string;
  readonly parameters: readonly { readonly name: string; readonly text: string }[];
  readonly returns: string;
  readonly throws: readonly string[];
  /** Fenced code. */
  readonly examples: readonly string[];
  /** File, from the repository's root. */
  readonly source: string;
}

/** One entry point. */
export interface ApiModule {
  /** `qlora/kernels`. */
  readonly name: string;
  readonly summary: string;
  readonly examples: readonly string[];
  readonly exports: readonly ApiExport[];
}

/** Headings in the order of the page. */
export const GROUPS: readonly (readonly [title: string, kinds: readonly string[]])[] = [
  ["Functions and values", ["function", "variable"]],
  ["Classes", ["class"]],
  ["Types", ["interface", "type alias"]],
];

/** The exports of a module under their headings; empty groups are left out. */
export function grouped({ exports }: ApiModule): readonly (readonly [title: string, members: readonly ApiExport[]])[] {
  return GROUPS.map(([title, kinds]) => [title, exports.filter(({ kind }) => kinds.includes(kind))] as const).filter(
    ([, members]) => members.length > 0,
  );
}

/** Exports that no heading takes, that say nothing of themselves, or whose signature holds a path of this machine. */
export function apiProblems(modules: readonly ApiModule[]): readonly string[] {
  const kinds = GROUPS.flatMap(([, members]) => members);
  return modules.flatMap(({ name: module, summary, exports }) => [
    ...(summary === "" ? [`${module}: the entry point has no comment`] : []),
    ...exports.flatMap(({ name, kind, summary: sentence, signature, source }) => [
      ...(sentence === "" ? [`${module}: ${name} (${source}) has no sentence`] : []),
      ...(signature === "" ? [`${module}: ${name} (${source}) has no signature`] : []),
      ...(signature.includes('import("/')
        ? [`${module}: the signature of ${name} (${source}) names a file; import the type that it means`]
        : []),
      ...(kinds.includes(kind) ? [] : [`${module}: ${name} is a ${kind}, which the page does not know`]),
    ]),
  ]);
}

/** `qlora/kernels` -> `kernels`. */
export const shortName = (module: string): string => module.replace(/^qlora\//, "");
