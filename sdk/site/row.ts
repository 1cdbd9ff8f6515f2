/** What a page asks for: the fields of a format's rows, and what a row of them is tokenized from. */
import { existsSync } from "node:fs";
import { ConfigError } from "../../core/errors.ts";
import type { DataFormat } from "../../core/plugin/data-format.ts";
import type { Template } from "../../core/plugin/template.ts";
import type { DataOptions } from "../../runtime/config/data-options.ts";
import { type Dataset, loadDataset } from "../../runtime/data/dataset.ts";
import { type DataRow, dataFormats, findFormat, formatOf } from "../../runtime/data/formats/index.ts";
import { contentOf } from "../../runtime/data/row.ts";
import type { RowText } from "../../runtime/data/truncation.ts";
import type { TrainedAdapter } from "../../runtime/folder/find-adapter.ts";
import { classesOf } from "../../runtime/folder/label-names.ts";
import { contentFor, placeholderOf } from "../../web/content.ts";
import type { RowTexts, SiteField } from "../../web/manifest.ts";

/** A row whose texts are placeholders. */
export interface ExampleRow {
  readonly dataset: Dataset;
  readonly fields: readonly SiteField[];
  readonly content: RowText;
}

const base = { id: "0", file: "this page", line: 1, label: undefined };

/** Rows that a visitor can paste, by the names of their formats. */
const FORMS: Readonly<Record<string, { readonly fields: readonly SiteField[]; row(texts: RowTexts): DataRow }>> = {
  arena: {
    fields: [
      { name: "prompt", label: "Prompt" },
      { name: "response_a", label: "Answer A" },
      { name: "response_b", label: "Answer B" },
    ],
    row: ({ prompt = "", response_a: responseA = "", response_b: responseB = "" }) => ({
      ...base,
      kind: "arena",
      prompt,
      responseA,
      responseB,
    }),
  },
  classification: {
    fields: [{ name: "text", label: "Text" }],
    row: ({ text = "" }) => ({ ...base, kind: "text", text }),
  },
};

/** Texts that a template may treat apart. */
const TRIED = ["", "  spaces around \n", "one\n\ntwo", "<bos>{text} $& tags"];

/** @throws ConfigError for a format whose rows cannot be pasted, and for a template that changes what it is given */
export function exampleRow({ name }: DataFormat, template: Template | undefined): ExampleRow {
  const form = FORMS[name];
  if (form === undefined) {
    const known = Object.keys(FORMS).join(" or ");
    throw new ConfigError("SITE_FORMAT", `format: a page has no form for rows of ${name}, expected ${known}`);
  }
  const { fields } = form;
  const all = (textOf: (field: string) => string): RowTexts =>
    Object.fromEntries(fields.map((field) => [field.name, textOf(field.name)]));
  const row = form.row(all(placeholderOf));
  const content = contentOf(row, template) as RowText;
  for (const text of TRIED) {
    const texts = all((field) => (text === "" ? text : `${text}${field}`));
    const made = contentOf(form.row(texts), template);
    if (JSON.stringify(made) === JSON.stringify(contentFor({ fields, content }, texts))) continue;
    throw new ConfigError(
      "SITE_TEMPLATE",
      `template: it changes the text ${JSON.stringify(text)}, which a page cannot`,
      {
        hint: "A page puts what is pasted into the template as it stands; train with a template that does so too.",
      },
    );
  }
  return { fields, dataset: { rows: [row], files: [] }, content };
}

/** The format that the options name, else that of the run's own files. @throws ConfigError where neither tells */
export async function formatOfRun(
  { format, columns, trainFiles, evalFiles }: DataOptions,
  trained: TrainedAdapter,
): Promise<DataFormat> {
  const named = findFormat(format);
  if (named !== undefined) return named;
  const file = [...trainFiles, ...evalFiles].find((path) => existsSync(path));
  if (file === undefined) {
    throw new ConfigError(
      "SITE_FORMAT",
      "format: nothing tells which rows the adapter judges: its run's files are not here",
      {
        hint: `Say it with --format ${dataFormats.map(({ name }) => name).join(" or --format ")}.`,
      },
    );
  }
  const { rows } = await loadDataset([file], {
    format: "auto",
    columns,
    labelled: false,
    labelNames: classesOf(trained),
  });
  return formatOf(rows[0]!);
}
