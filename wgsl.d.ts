/** WGSL sources are imported as text: `import code from "./rope.wgsl" with { type: "text" }`. */
declare module "*.wgsl" {
  const source: string;
  export default source;
}
