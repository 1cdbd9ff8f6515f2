/** Finds and loads an MPI library through bun:ffi, and gives its functions with their errors as QloraErrors. */
import { CString, dlopen, type FFIFunction, type Pointer } from "bun:ffi";
import { ConfigError, QloraError } from "../../core/errors.ts";
import type { Environment, Launch } from "./launcher.ts";
import { abiOf, type HandleName, type MpiAbi } from "./mpi-abi.ts";

/** A loaded library. */
export interface MpiLibrary {
  /** First line of what it says of itself. */
  readonly version: string;
  /** The name or path that was loaded. */
  readonly path: string;
  readonly abi: MpiAbi;
  /** A handle as its functions take it. @throws ConfigError where the library has none of this name */
  handle(name: HandleName): number;
  /** Calls a function. @throws QloraError MPI_FAILED with the library's own words */
  call(name: MpiFunction, ...args: readonly Argument[]): void;
}

/** Numbers and addresses; memory goes as a typed array, which must live until the call, or its request, is done. */
export type Argument = number | Pointer | NodeJS.TypedArray | null;

const RTLD_NOW = 2;
const RTLD_GLOBAL = 0x100;

/** MPI_MAX_LIBRARY_VERSION_STRING is 256 (Open MPI) to 8192 bytes. */
const TEXT_BYTES = 16384;

const P = "ptr";
const I = "i32";

/** What is called of MPI; H stands for a handle. */
const FUNCTIONS = {
  MPI_Initialized: [P],
  MPI_Init_thread: [P, P, I, P],
  MPI_Comm_rank: ["H", P],
  MPI_Comm_size: ["H", P],
  MPI_Comm_set_errhandler: ["H", "H"],
  MPI_Error_string: [I, P, P],
  MPI_Isend: [P, I, "H", I, I, "H", P],
  MPI_Irecv: [P, I, "H", I, I, "H", P],
  MPI_Ibcast: [P, I, "H", I, "H", P],
  MPI_Iallreduce: [P, P, I, "H", "H", "H", P],
  MPI_Ialltoall: [P, I, "H", P, I, "H", "H", P],
  MPI_Iallgather: [P, I, "H", P, I, "H", "H", P],
  MPI_Ibarrier: ["H", P],
  MPI_Test: [P, P, P],
  MPI_Abort: ["H", I],
  MPI_Finalize: [],
} as const satisfies Readonly<Record<string, readonly ("ptr" | "i32" | "H")[]>>;

/** Functions of MPI that are called here. */
export type MpiFunction = keyof typeof FUNCTIONS;

const OPEN_MPI = ["libmpi.so.40", "libmpi.so.80"];
const MPICH = ["libmpich.so.12", "libmpi.so.12", "libmpi_mpich.so.12"];
const STANDARD = ["libmpi_abi.so.0"];

/** Names to try, in order: the one that is named, else those of the launcher's family, else what the system has. */
export function libraryCandidates({ family }: Pick<Launch, "family">, env: Environment): readonly string[] {
  const named = env["QLORA_MPI_LIB"];
  if (named !== undefined && named !== "") return [named];
  // Another family's library beside the launcher loads and gives every process a world of its own: it comes last, and is then refused.
  return family === "open-mpi" ? [...OPEN_MPI, ...STANDARD, ...MPICH] : [...STANDARD, ...MPICH, ...OPEN_MPI];
}

const cString = (text: string): Buffer => Buffer.from(`${text}\0`);

/** Loads the library. @throws ConfigError MPI_NOT_FOUND naming what was tried; MPI_LIBRARY where one is no MPI */
export function loadMpi(launch: Launch, env: Environment): MpiLibrary {
  const libc = dlopen("libc.so.6", {
    dlopen: { args: [P, I], returns: P },
    dlsym: { args: [P, P], returns: P },
    dlerror: { args: [], returns: P },
  }).symbols;
  const tried: string[] = [];
  for (const path of libraryCandidates(launch, env)) {
    // Open MPI's own plugins look its symbols up globally, and bun:ffi opens libraries locally: this comes first.
    const library = libc.dlopen(cString(path), RTLD_NOW | RTLD_GLOBAL);
    if (library === null) {
      const why = libc.dlerror();
      tried.push(why === null ? path : new CString(why).toString());
      continue;
    }
    return bind(path, (name) => (libc.dlsym(library, cString(name)) as number | null) ?? undefined);
  }
  throw new ConfigError(
    "MPI_NOT_FOUND",
    `${launch.launcher} started this process, but no MPI library loads: ${tried.join("; ")}`,
    {
      hint: "Install the MPI of your launcher (Debian: mpich or openmpi-bin), or name its libmpi.so with QLORA_MPI_LIB.",
    },
  );
}

function bind(path: string, symbol: (name: string) => number | undefined): MpiLibrary {
  const missing = ["MPI_Get_library_version", ...Object.keys(FUNCTIONS)].filter((name) => symbol(name) === undefined);
  if (missing.length > 0) {
    throw new ConfigError(
      "MPI_LIBRARY",
      `${path} has no ${missing[0]}, expected an MPI library of version 3 or later`,
      {
        hint: "Name another with QLORA_MPI_LIB.",
      },
    );
  }
  const abi = abiOf(path, symbol);
  const definitions = Object.fromEntries(
    Object.entries(FUNCTIONS).map(([name, args]): [string, FFIFunction] => [
      name,
      { args: args.map((arg) => (arg === "H" ? abi.handle : arg)), returns: I },
    ]),
  );
  const version = dlopen(path, { MPI_Get_library_version: { args: [P, P], returns: I } }).symbols;
  const functions = dlopen(path, definitions).symbols as unknown as Readonly<
    Record<MpiFunction, (...args: readonly Argument[]) => number>
  >;
  const text = Buffer.alloc(TEXT_BYTES);
  const length = new Int32Array(1);
  version.MPI_Get_library_version(text, length);
  const said = text.toString("utf8", 0, length[0]).replace(/\0.*/s, "").trim().split("\n")[0]!;
  return {
    version: said.replaceAll(/\s+/g, " "),
    path,
    abi,
    handle(name) {
      const handle = abi.of(name);
      if (handle !== undefined) return handle;
      throw new ConfigError("MPI_LIBRARY", `${path} (${said}) has no handle for ${name}`, {
        hint: "Name another library with QLORA_MPI_LIB.",
      });
    },
    call(name, ...args) {
      const code = functions[name](...args);
      if (code === 0) return;
      const words = Buffer.alloc(TEXT_BYTES);
      const size = new Int32Array(1);
      functions.MPI_Error_string(code, words, size);
      throw new QloraError("MPI_FAILED", `${name}: ${words.toString("utf8", 0, size[0]).replaceAll(/\s+/g, " ")}`);
    },
  };
}
