/** One enabled binary source of apt. */
interface AptSource {
  readonly uris: string;
  readonly suites: readonly string[];
  readonly signedBy: string | undefined;
}
export function parseDeb822(text: string): AptSource[];
export function parseList(text: string): AptSource[];
export function backportsSource(sources: readonly AptSource[], suite: string): string | undefined;
export function installSoftwareVulkan(): string | undefined;
