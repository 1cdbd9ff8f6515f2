/** What Node 20 lacks; dist/polyfills.js, which all of dist/ imports first. */
import { availableParallelism } from "node:os";
import { provide } from "../../web/page/language.ts";

provide("navigator", { hardwareConcurrency: availableParallelism() });
