"""Run as a script: score and export a run with little more memory than what scored and exported another one has.

    python bounded_memory.py BYTES RUN OTHER OUT

The system refuses memory of its own to this process beyond BYTES more than it has once OTHER is exported to OUT/other;
RUN is exported to OUT/run. First it is made sure that the limit holds: RUN's weights do not fit.
"""

import resource
import sys
from pathlib import Path

from musenet.runs.run import Run
from musenet.runs.tensor_files import load_tensors
from musenet.serving.export.export import export_run


def main() -> None:
    limit, out = int(sys.argv[1]), Path(sys.argv[4])
    run, other = (Run.open(Path(path)) for path in sys.argv[2:4])
    score_and_export(other, out / "other")
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    has = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (has + limit, resource.RLIM_INFINITY))
    try:
        load_tensors(run.folder.model_file)
    except RuntimeError:  # as torch says that there is no memory
        score_and_export(run, out / "run")
    else:
        raise SystemExit("the limit does not hold")


def score_and_export(run: Run, out: Path) -> None:
    run.evaluate("test", 5)
    export_run(run, out)


if __name__ == "__main__":
    main()
