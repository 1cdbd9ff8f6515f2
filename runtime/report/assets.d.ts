/** The page's style and script are imported as text. */
declare module "*.css" {
  const source: string;
  export default source;
}
declare module "*.client.js" {
  const source: string;
  export default source;
}
