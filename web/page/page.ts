/** The page: looks at the GPU, plans, downloads, loads, seals itself, judges. */
import { describeDevice } from "../../core/device/meta.ts";
import type { Gpu } from "../../core/device/gpu.ts";
import { ModelError, QloraError } from "../../core/errors.ts";
import type { ByteSource } from "../../core/formats/bytes.ts";
import { openAddress } from "../../runtime/files/sources.ts";
import { type Chunk, chunkFolder, chunksOf, remoteFolder } from "../chunks.ts";
import { Judge, type Verdict } from "../judge.ts";
import { MANIFEST, parseManifest, siteBytes, type SiteManifest } from "../manifest.ts";
import type { SiteFolders } from "../parts.ts";
import { type JudgePlan, planJudge } from "../plan.ts";
import { openBrowserGpu } from "./device.ts";
import { formElements } from "./form.ts";
import { type ChunkStore, downloadChunks, missingChunks, openStore } from "./store.ts";
import { showFact, showProblem, showProgress, showVerdict, sizeText, view } from "./view.ts";

const addressOf = (path: string): string => new URL(path, document.baseURI).href;

/** Everything that is known before anything large is downloaded. */
interface Ready {
  readonly manifest: SiteManifest;
  readonly store: ChunkStore;
  readonly gpu: Gpu;
  readonly plan: JudgePlan;
}

async function prepare(): Promise<Ready> {
  const gpu = await openBrowserGpu();
  const response = await fetch(addressOf(MANIFEST), { cache: "no-cache" });
  if (!response.ok)
    throw new ModelError("SITE_INVALID", `${MANIFEST}: its server answers with status ${response.status}`, {
      hint: "Serve the folder as qlora export web wrote it.",
    });
  const manifest = parseManifest(new Uint8Array(await response.arrayBuffer()));
  describe(manifest, gpu);
  view.fields.replaceChildren(...formElements(manifest));
  const sources: ByteSource[] = [];
  const open = async (path: string): Promise<ByteSource> => {
    const source = await openAddress(addressOf(path));
    sources.push(source);
    return source;
  };
  const store = await openStore();
  const isHere = (await missingChunks(store, chunksOf(manifest))).length === 0;
  // From the headers of the weights alone: what cannot run is known before gigabytes have come.
  const remote = { model: remoteFolder("model", manifest, open), adapter: remoteFolder("adapter", manifest, open) };
  const plan = await planJudge(manifest, isHere ? keptFolders(manifest, store) : remote, describeDevice(gpu));
  for (const source of sources) await source.close();
  showFact("GPU memory", `${sizeText(plan.memoryBytes)} at most`);
  return { manifest, store, gpu, plan };
}

function keptFolders(manifest: SiteManifest, store: ChunkStore): SiteFolders {
  const folder = (name: string) => chunkFolder(name, manifest, (sha256) => store.blob(sha256));
  return { model: folder("model"), adapter: folder("adapter") };
}

function describe({ title, baseModel, qlora, tokens, labels }: SiteManifest, gpu: Gpu): void {
  document.title = title;
  view.title.textContent = title;
  showFact("Base model", baseModel);
  showFact("Classes", labels.join(", "));
  showFact("Longest text", `${tokens.maxLength} tokens`);
  const { vendor, architecture, device, description } = gpu.info.adapter;
  showFact("Your GPU", `${description || device || `${vendor} ${architecture}`.trim()} (tier ${gpu.tier})`);
  view.made.textContent = `Made with qlora ${qlora}.`;
}

/** Says what loading takes; what is here already is not downloaded again. */
async function showDownload({ manifest, store }: Ready): Promise<readonly Chunk[]> {
  const all = siteBytes(manifest);
  const missing = await missingChunks(store, chunksOf(manifest));
  const bytes = missing.reduce((sum, { length }) => sum + length, 0);
  const kept =
    bytes === all ? "" : bytes === 0 ? " (in this browser already)" : ` (${sizeText(all - bytes)} is here already)`;
  showFact("Download", `${sizeText(all)}${kept}`);
  view.forget.hidden = bytes === all || store.gone !== undefined;
  return missing;
}

/** @throws QloraError where the browser's storage is too small */
async function requireRoom(bytes: number): Promise<void> {
  const { quota, usage } = await navigator.storage.estimate();
  if (quota === undefined || usage === undefined || quota - usage >= bytes) return;
  throw new QloraError(
    "STORAGE_FULL",
    `The browser gives this page ${sizeText(quota - usage)}; the judge needs ${sizeText(bytes)}.`,
    {
      hint: "Free room on the disk, or open the page in a window that is not private.",
    },
  );
}

async function load(ready: Ready): Promise<Judge> {
  const { manifest, store, gpu, plan } = ready;
  const missing = await showDownload(ready);
  const total = missing.reduce((sum, { length }) => sum + length, 0);
  if (store.gone === undefined && total > 0) {
    await requireRoom(total);
    await navigator.storage.persist(); // no means that the browser may clear it when the disk is full
  }
  let done = 0;
  const told = (bytes: number): void => {
    done += bytes;
    showProgress(`Downloading: ${sizeText(done)} of ${sizeText(total)}`, done / Math.max(1, total));
  };
  if (total > 0) told(0);
  await downloadChunks(store, missing, addressOf, told);
  await showDownload(ready);
  const folders = keptFolders(manifest, store);
  showProgress("Loading onto the GPU", 0);
  const judge = await Judge.open(gpu, { manifest, folders, plan }, (what, part, whole) => {
    showProgress(`${what[0]!.toUpperCase()}${what.slice(1)}: ${Math.round((100 * part) / whole)} %`, part / whole);
  });
  showProgress(undefined);
  return judge;
}

/** Policies only ever add up: from here on no script of this page, whatever it is, can ask for anything. */
function seal(): void {
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content =
    "default-src 'none'; connect-src 'none'; img-src 'none'; media-src 'none'; frame-src 'none'; worker-src 'none'; form-action 'none'";
  document.head.append(policy);
  view.sealed.hidden = false;
}

function notesOf(verdict: Verdict, milliseconds: number): string {
  const { tokens, fullTokens, cut, lost, logits } = verdict;
  const parts = [`${tokens} tokens in ${Math.round(milliseconds)} ms`];
  if (cut) parts.push(`cut from ${fullTokens} tokens, as the judge was trained`);
  if (lost.length > 0) parts.push(`nothing of answer ${lost.join(" and ")} was left`);
  parts.push(`logits ${logits.map((value) => value.toFixed(3)).join(", ")}`);
  return `${parts.join("; ")}.`;
}

function takeQuestions(judge: Judge, { manifest }: Ready): void {
  const submit = view.fields.querySelector<HTMLButtonElement>("button")!;
  view.form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(view.form);
    const textOf = (name: string): string => {
      const value = given.get(name);
      return typeof value === "string" ? value : "";
    };
    const texts = Object.fromEntries(manifest.fields.map(({ name }) => [name, textOf(name)]));
    submit.disabled = true;
    void attempt(async () => {
      const start = performance.now();
      const verdict = await judge.judge(texts, given.get("swap") !== null);
      showVerdict(manifest.labels, verdict.probabilities, notesOf(verdict, performance.now() - start));
      showFact("GPU memory", `${sizeText(judge.memoryBytes)} in use`);
      submit.disabled = false;
    });
  });
  showFact("GPU memory", `${sizeText(judge.memoryBytes)} in use`);
  view.fields.disabled = false;
}

/** Shows what goes wrong, with what the visitor can do. */
async function attempt(work: () => Promise<void>): Promise<void> {
  try {
    showProblem(undefined);
    await work();
  } catch (error) {
    showProgress(undefined);
    const hint = error instanceof QloraError && error.hint !== undefined ? `\n${error.hint}` : "";
    showProblem(`${error instanceof Error ? error.message : String(error)}${hint}`);
  }
}

async function start(): Promise<void> {
  const ready = await prepare();
  await showDownload(ready);
  if (ready.store.gone !== undefined) showFact("Kept", `only while the page is open: ${ready.store.gone}`);
  view.load.disabled = false;
  view.load.addEventListener("click", () => {
    view.load.disabled = true;
    void attempt(async () => {
      const judge = await load(ready).catch((error: unknown) => {
        view.load.disabled = false;
        throw error;
      });
      view.load.hidden = true;
      seal();
      takeQuestions(judge, ready);
      // For scripts of the visitor's own, and for tests.
      Object.assign(globalThis, { judge });
    });
  });
  view.forget.addEventListener("click", () => {
    void attempt(async () => {
      await ready.store.clear();
      showFact("Download", `${sizeText(siteBytes(ready.manifest))} (removed from this browser)`);
      view.forget.hidden = true;
    });
  });
}

void attempt(start);
