/** The three binary interfaces that MPI libraries have: handles are numbers in two of them, addresses of symbols in the third. */

/** Handles that are used here. */
export type HandleName = "world" | "float" | "double" | "byte" | "sum" | "max" | "errorsReturn";

/** How a library's handles and constants look. */
export interface MpiAbi {
  readonly name: "mpich" | "open-mpi" | "standard";
  /** `int` in MPICH's interface, a pointer elsewhere. */
  readonly handle: "i32" | "ptr";
  readonly requestBytes: 4 | 8;
  readonly statusIgnore: number;
  /** MPI_THREAD_FUNNELED. */
  readonly funneled: number;
  /** A handle's value; undefined where the library has none. */
  readonly of: (name: HandleName) => number | undefined;
}

/** mpi.h of MPICH, which Intel MPI, Cray MPICH and MVAPICH share. */
const MPICH: Readonly<Record<HandleName, number>> = {
  world: 0x44000000,
  float: 0x4c00040a,
  double: 0x4c00080b,
  byte: 0x4c00010d,
  sum: 0x58000003,
  max: 0x58000001,
  errorsReturn: 0x54000001,
};

/** mpi_abi.h of MPI 5.0. */
const STANDARD: Readonly<Record<HandleName, number>> = {
  world: 0x101,
  float: 0x210,
  double: 0x214,
  byte: 0x247,
  sum: 0x21,
  max: 0x23,
  errorsReturn: 0x143,
};

/** Symbols of Open MPI, whose addresses are the handles. */
const OPEN_MPI: Readonly<Record<HandleName, string>> = {
  world: "ompi_mpi_comm_world",
  float: "ompi_mpi_float",
  double: "ompi_mpi_double",
  byte: "ompi_mpi_byte",
  sum: "ompi_mpi_op_sum",
  max: "ompi_mpi_op_max",
  errorsReturn: "ompi_mpi_errors_return",
};

/** The interface of a library. @param symbol address of a symbol of it; undefined where it has none */
export function abiOf(path: string, symbol: (name: string) => number | undefined): MpiAbi {
  if (symbol("MPI_Abi_get_version") !== undefined && path.includes("mpi_abi")) {
    const of = (name: HandleName): number => STANDARD[name];
    return { name: "standard", handle: "ptr", requestBytes: 8, statusIgnore: 0, funneled: 1024, of };
  }
  if (symbol(OPEN_MPI.world) !== undefined) {
    const of = (name: HandleName): number | undefined => symbol(OPEN_MPI[name]);
    return { name: "open-mpi", handle: "ptr", requestBytes: 8, statusIgnore: 0, funneled: 1, of };
  }
  const of = (name: HandleName): number => MPICH[name];
  return { name: "mpich", handle: "i32", requestBytes: 4, statusIgnore: 1, funneled: 1, of };
}
