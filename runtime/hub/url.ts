/** Addresses as they may be shown: never with a user's name or password. */

/** Host of an address, without the user and password that it may hold. */
export const hostOf = (url: string): string => new URL(url).host;

/** An address without user and password. */
export function publicUrl(endpoint: string): string {
  const url = new URL(endpoint);
  url.username = "";
  url.password = "";
  return url.href.replace(/\/$/, "");
}
