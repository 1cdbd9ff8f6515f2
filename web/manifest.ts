/** site.json: what a page that judges is made of. `qlora export web` writes it, the page reads it. */
import { ModelError } from "../core/errors.ts";
import { isObject, parseJsonObject } from "../core/formats/json-object.ts";
import type { RowText, Truncation } from "../runtime/data/truncation.ts";

export const MANIFEST = "site.json";

/** Bytes that are asked for at once, kept as one file and checked by one digest. */
export const CHUNK_BYTES = 16 * 2 ** 20;

/** A file of the page's model or adapter. */
export interface SiteFile {
  readonly bytes: number;
  /** SHA-256 of each chunk, in hex. */
  readonly chunks: readonly string[];
}

/** A text that the visitor gives. */
export interface SiteField {
  readonly name: string;
  /** For people. */
  readonly label: string;
}

/** Texts by the names of their fields. */
export type RowTexts = Readonly<Record<string, string>>;

/** A trained judge, and how rows become its tokens. */
export interface SiteManifest {
  /** Of this layout. */
  readonly version: 1;
  /** The qlora that wrote it. */
  readonly qlora: string;
  readonly title: string;
  /** The base model by its name. */
  readonly baseModel: string;
  /** A shipped model plugin, with what the run chose. */
  readonly model: { readonly name: string; readonly options: Readonly<Record<string, unknown>> };
  readonly numLabels: number;
  /** Of the classes in their order, as `predict` names its columns. */
  readonly columns: readonly string[];
  /** The same for people. */
  readonly labels: readonly string[];
  /** The texts that a row is made of. */
  readonly fields: readonly SiteField[];
  /** What a row is tokenized from, as the run's template has it, with a placeholder (content.ts) where a field's text goes. */
  readonly content: RowText;
  /** The class that each class becomes where the two answers, the last fields, are exchanged; absent where there are none. */
  readonly mirror?: readonly number[] | undefined;
  readonly tokens: {
    /** Special ids around a text. */
    readonly before: readonly number[];
    readonly after: readonly number[];
    readonly maxLength: number;
    readonly truncation: Truncation;
    readonly promptMaxTokens: number;
  };
  readonly chunkBytes: number;
  /** By path below the page: `model/...` and `adapter/...`. */
  readonly files: Readonly<Record<string, SiteFile>>;
}

/** Bytes of all files. */
export const siteBytes = ({ files }: Pick<SiteManifest, "files">): number =>
  Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);

/** @throws ModelError SITE_INVALID for what this version cannot read */
export function parseManifest(bytes: Uint8Array): SiteManifest {
  const refuse = (problem: string, cause?: unknown): ModelError =>
    new ModelError("SITE_INVALID", `${MANIFEST}: ${problem}`, {
      cause,
      hint: "Write the page anew: qlora export web.",
    });
  const json = parseJsonObject(bytes, refuse);
  if (json["version"] !== 1) throw refuse(`version: expected 1, got ${JSON.stringify(json["version"])}`);
  if (!isObject(json["files"])) throw refuse("it lists no files");
  return json as unknown as SiteManifest;
}
