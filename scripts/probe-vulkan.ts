import { openGpu } from "../runtime/device/open.ts";

const failures: string[] = [];
for (const gpu of ["bun-webgpu", "webgpu"] as const) {
  try {
    const { info } = await openGpu({ gpu });
    console.log(`${gpu}: ${info.adapter.description}`);
    process.exit(0);
  } catch (error) {
    failures.push(`${gpu}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
console.error(failures.join("\n"));
process.exit(1);
