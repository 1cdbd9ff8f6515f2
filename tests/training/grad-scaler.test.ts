import { describe, expect, test } from "bun:test";
import { GradScaler, initialGradScalerState } from "../../runtime/training/grad-scaler.ts";

const clean = (scaler: GradScaler, steps: number): void => {
  for (let i = 0; i < steps; i++) scaler.update(false);
};

describe("GradScaler (torch.amp's constants)", () => {
  test("starts at 65536, halves on overflow, doubles after 2000 clean steps in a row", () => {
    const scaler = new GradScaler();
    expect(scaler.scale).toBe(65_536);
    scaler.update(true);
    expect(scaler.scale).toBe(32_768);
    clean(scaler, 1999);
    expect(scaler.scale).toBe(32_768);
    clean(scaler, 1);
    expect(scaler.scale).toBe(65_536);
    clean(scaler, 1999);
    scaler.update(true);
    expect(scaler.scale).toBe(32_768);
    clean(scaler, 1999);
    expect(scaler.scale).toBe(32_768);
  });

  test("its state survives JSON and goes on the same", () => {
    const scaler = new GradScaler();
    scaler.update(true);
    clean(scaler, 1500);
    const restored = new GradScaler(JSON.parse(JSON.stringify(scaler.state)));
    expect(restored.state).toEqual({ ...initialGradScalerState, scale: 32_768, growthTracker: 1500 });
    clean(restored, 500);
    expect(restored.state).toEqual({ ...initialGradScalerState, scale: 65_536, growthTracker: 0 });
  });

  test("never grows past f32", () => {
    const scaler = new GradScaler({ ...initialGradScalerState, scale: 2 ** 127, growthInterval: 1 });
    clean(scaler, 1);
    expect(scaler.scale).toBe(2 ** 127);
  });
});
