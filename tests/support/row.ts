import type { DataRow } from "../../runtime/data/formats/index.ts";

/** A row of data of which only the label matters, or its soft labels. */
export const labelledRow = (label: number, soft?: readonly number[]): DataRow => ({
  kind: "text",
  text: "t",
  id: "0",
  file: "f",
  line: 1,
  label,
  soft,
});
