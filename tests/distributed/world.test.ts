/** Ranks that meet through MPI; what one process does without it. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { findLaunch, launchedRank } from "../../runtime/distributed/launcher.ts";
import { libraryCandidates } from "../../runtime/distributed/mpi-library.ts";
import { failure } from "../support/failure.ts";
import { hasMpi, runRanks, start } from "../support/ranks.ts";

const fixture = (name: string): string => join(import.meta.dir, "fixtures", `${name}.ts`);

describe("the launcher", () => {
  test("is known by its variables; none loads nothing", () => {
    expect(findLaunch({ HOME: "/root", RANK: "0" })).toBeUndefined();
    expect(findLaunch({ OMPI_COMM_WORLD_SIZE: "2", PMIX_RANK: "0" })).toMatchObject({ family: "open-mpi", size: 2 });
    expect(findLaunch({ PMI_SIZE: "3" })).toMatchObject({ family: "mpich", size: 3 });
    expect(findLaunch({ PMI_SIZE: "3", SLURM_STEP_NUM_TASKS: "3" })).toMatchObject({ launcher: "srun", family: "any" });
    expect(findLaunch({ SLURM_STEP_NUM_TASKS: "4", SLURM_PROCID: "1" })).toMatchObject({ launcher: "srun", size: 4 });
    // A batch script itself is no step of srun's.
    expect(findLaunch({ SLURM_NTASKS: "4", SLURM_PROCID: "0", SLURM_JOB_ID: "7" })).toBeUndefined();
    expect(launchedRank({ SLURM_STEP_NUM_TASKS: "4", SLURM_PROCID: "3" })).toBe(3);
    expect(launchedRank({ SLURM_PROCID: "3" })).toBe(0);
  });

  test("torchrun without MPI is refused with the way on", async () => {
    const env = { TORCHELASTIC_RUN_ID: "x", RANK: "1", WORLD_SIZE: "2" };
    const said = await failure(Promise.try(() => findLaunch(env)));
    expect(said).toContain("torchrun started this process (rank 1 of 2), but qlora's ranks meet through MPI");
  });

  test("its family's library is tried first, and a named one alone", () => {
    expect(libraryCandidates({ family: "open-mpi" }, {})[0]).toBe("libmpi.so.40");
    expect(libraryCandidates({ family: "mpich" }, {}).slice(0, 2)).toEqual(["libmpi_abi.so.0", "libmpich.so.12"]);
    expect(libraryCandidates({ family: "mpich" }, { QLORA_MPI_LIB: "/opt/libmpi.so" })).toEqual(["/opt/libmpi.so"]);
  });
});

describe.skipIf(!hasMpi)("a world of ranks", () => {
  test("three ranks exchange, gather, broadcast, scatter and sum", async () => {
    const { code, stdout, stderr } = await runRanks(3, [fixture("world")]);
    expect(code, stderr).toBe(0);
    const seen = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .sort((a, b) => (a["rank"] as number) - (b["rank"] as number));
    const bytes = Uint8Array.from({ length: 100_003 }, (_, i) => i % 251);
    for (const [rank, own] of seen.entries())
      expect(own).toEqual({
        rank,
        size: 3,
        local: [rank, 3],
        exchanged: [
          [0, 0],
          [1, 10],
          [2, 20],
        ],
        gathered: ["x", "xx", "xxx"],
        broadcast: Bun.hash(bytes).toString(16),
        scattered: [0, 1, 100, 101, 200, 201].map((value) => value + 2 * rank),
        all: [0, 7, 1, 6, 2, 5],
        sum: [6, 1.5],
        ticked: true,
        unlike: expect.stringMatching(/^the config: a\.b: 0 on rank 0, but 1 on rank 2 on \S+$/),
      });
    expect(seen).toHaveLength(3);
  }, 60_000);

  test("a rank that hangs is named after the deadline, and all end", async () => {
    const { code, stdout } = await runRanks(2, [fixture("trouble")], { TROUBLE: "hang", QLORA_MPI_DEADLINE: "1" });
    expect(stdout).toMatch(
      /^rank 0: rank 1 \(process \d+ on \S+\) did not come within 1 s, while waiting for step 7$/m,
    );
    expect(code).not.toBe(0);
  }, 60_000);

  test("a rank that fails ends all", async () => {
    const { code, stderr } = await runRanks(2, [fixture("trouble")], { TROUBLE: "throw" });
    expect(stderr).toContain("rank 1 is broken");
    expect(code).not.toBe(0);
  }, 60_000);

  test("a rank that leaves without a word does not end the job as done", async () => {
    const { code } = await runRanks(2, [fixture("trouble")], { TROUBLE: "leave", QLORA_MPI_DEADLINE: "1" });
    expect(code).not.toBe(0);
  }, 60_000);

  test("library and launcher of different families are refused", async () => {
    // Open MPI's variables around a process that only MPICH's library, or a world of its own, is there for.
    const env = { OMPI_COMM_WORLD_SIZE: "2", OMPI_COMM_WORLD_RANK: "0" };
    const script = `import { openWorld } from ${JSON.stringify(join(import.meta.dir, "../../runtime/distributed/index.ts"))}; await openWorld();`;
    const { code, stderr } = await start([process.execPath, "-e", script], env).ended;
    expect(code).not.toBe(0);
    expect(stderr).toMatch(
      /Open MPI's mpirun started 2 processes, but lib\S+ \(.+\) gives this one a world of 1: library and launcher/,
    );
  }, 60_000);

  test("a library that is not there is told with what was tried", async () => {
    const env = { PMI_SIZE: "2", PMI_RANK: "0", QLORA_MPI_LIB: "/nowhere/libmpi.so" };
    const script = `import { openWorld } from ${JSON.stringify(join(import.meta.dir, "../../runtime/distributed/index.ts"))}; await openWorld();`;
    const { stderr } = await start([process.execPath, "-e", script], env).ended;
    expect(stderr).toContain("MPICH's mpirun started this process, but no MPI library loads: /nowhere/libmpi.so");
  }, 60_000);
});
