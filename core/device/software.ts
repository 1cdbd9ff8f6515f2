/** True for a driver that computes on the CPU, as Mesa's lavapipe does. */
export const isSoftware = ({
  architecture,
  device,
  description,
}: Pick<GPUAdapterInfo, "architecture" | "device" | "description">): boolean =>
  /software|llvmpipe|swiftshader/i.test(`${architecture} ${device} ${description}`);
