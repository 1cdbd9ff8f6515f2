/** Dependencies that are loaded when they are first needed. */
import { QloraError } from "../core/errors.ts";

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
    // Bun's ResolveMessage has a message and is no Error.
    const reason = (cause as { readonly message?: unknown }).message ?? cause;
    throw new QloraError("PACKAGE_NOT_LOADED", `${task}: the package ${name} does not load here: ${String(reason)}`, {
      hint,
      cause,
    });
  }
}
