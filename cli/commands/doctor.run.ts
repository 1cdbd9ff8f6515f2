import type { DoctorReport } from "../../sdk/doctor.ts";
import type { CommandData } from "../command.ts";
import { DONE, FAILED } from "../exit-codes.ts";
import { columns, thousands, writeData, writeJson } from "../output.ts";

/** Prints what the device is and whether it computes right; 1 where a self-test is beyond its tolerance. */
export async function doctor({ services, values }: CommandData, json: boolean): Promise<number> {
  const sdk = await services.sdk();
  const report = await sdk.doctor(values["device"] ?? {});
  const ok = report.selfTest.every(({ error, tolerance }) => error <= tolerance); // NaN fails
  if (json) await writeJson({ ok, ...report });
  else await writeData(reportText(report));
  return ok ? DONE : FAILED;
}

function reportText(report: DoctorReport): string {
  const { provider, adapter, driver, tier, tiers, devices, limits, features, selfTest } = report;
  const head = [
    ["adapter", adapter],
    ["driver", driver],
    ["provider", provider],
    ["tier", `${tier} (offered: ${tiers.join(", ")})`],
    ["features", features.join(", ") || "none"],
  ];
  const deviceRows = devices.map(({ index, name, uuid, pci, tiers: offered }) => [
    `  ${index}`,
    name,
    uuid,
    pci ?? "no PCI address",
    offered === undefined ? "" : `tier ${offered.at(-1)}`,
  ]);
  const deviceText = `devices (--device), ${report.deviceWay}\n${columns(deviceRows)}`;
  const limitRows = Object.entries(limits).map(([name, value]) => [`  ${name}`, thousands(value)]);
  const testRows = selfTest.map(({ name, error, tolerance }) => [
    `  ${name}`,
    error <= tolerance ? "ok" : "WRONG",
    `error ${error.toExponential(1)}`,
    `tolerance ${tolerance.toExponential(1)}`,
  ]);
  return `${columns(head)}${deviceText}limits\n${columns(limitRows, [false, true])}self-test\n${columns(testRows)}`;
}
