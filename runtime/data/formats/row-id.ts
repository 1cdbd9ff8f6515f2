import { DataError } from "../../../core/errors.ts";
import type { DataRecord, DataSource } from "../../../core/plugin/data-format.ts";
import { excerptOf } from "../sources/json.ts";

/** The file's own id as it is written, else the row's position. @throws DataError for an id that is neither string nor number */
export function rowId({ file }: DataSource, record: DataRecord, position: number): string {
  const id = record.text("id");
  if (id !== undefined) return id;
  const value = record.value("id");
  if (value === undefined || value === null) return String(position);
  const message = `id: expected a string or a number, got ${excerptOf(value)}`;
  throw new DataError("DATA_CELL_INVALID", message, { file, line: record.line });
}
