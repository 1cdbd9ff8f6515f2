/** Dependencies that are loaded when they are first needed. */
import { QloraError } from "../core/errors.ts";
import { hostName } from "./host.ts";

/** Why an import failed; Bun's ResolveMessage has a message and is no Error. */
export const reasonOf = (cause: unknown): string =>
  String((cause as { readonly message?: unknown } | undefined)?.message ?? cause);

/** The command that adds a package, in this runtime. */
export const addPackage = (name: string): string =>
  ({ bun: `bun add ${name}`, deno: `deno add npm:${name}`, node: `npm install ${name}` })[hostName];

/**
 * What `import(name)` gives; a package that is missing or does not load is one error that says what it was needed for.
 * @param loading the import under way
 * @throws QloraError PACKAGE_NOT_LOADED
 */
export async function loadPackage<T>(
  loading: Promise<T>,
  { name, task, hint }: { readonly name: string; readonly task: string; readonly hint: string },
): Promise<T> {
  try {
    return await loading;
  } catch (cause) {
    throw new QloraError("PACKAGE_NOT_LOADED", `${task}: the package ${name} does not load here: ${reasonOf(cause)}`, {
      hint,
      cause,
    });
  }
}
