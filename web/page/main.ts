/** What the page runs, in this order: what older browsers lack, arktype without code made from text, which the page's policy forbids. */
import "./language.ts";
import "./jitless.ts";
import "./page.ts";
