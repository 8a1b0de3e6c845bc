"""What docs/distributed.md starts on clusters, with stand-ins for the clusters' programs: what those are told."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from torch.distributed.run import parse_args

from musenet.cli.main import OF_SEVERAL, app
from places import ROOT

PAGE = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def check_torchrun(arguments: list[str]) -> Any:
    """What torchrun understands; it takes these arguments, and the command of musenet that it starts takes its own."""
    told = parse_args(arguments)
    assert (told.module, told.training_script) == (True, "musenet")
    name, *options = told.training_script_args
    group: Any = typer.main.get_command(app)
    assert name in OF_SEVERAL
    known = {option for one in group.commands[name].params for option in one.opts}
    assert {option for option in options if option.startswith("--")} <= known
    return told


def test_slurm_starts_a_torchrun_on_each_machine_that_meet_at_the_first(tmp_path: Path):
    (script,) = (block for block in blocks("bash") if "#SBATCH" in block)
    stand_ins = {
        "scontrol": 'test "$*" = "show hostnames node[7-8]" && printf "node7\\nnode8\\n"',
        "srun": 'for machine in 7 8; do "$@"; done',
        "torchrun": f'printf "%s\\n" "$@" > {tmp_path}/$(ls {tmp_path} | wc -l).told',
    }
    (tmp_path / "bin").mkdir()
    for name, content in stand_ins.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{content}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "41"}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-c", script], env=os.environ | slurm | {"PATH": path}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second = (file.read_text().splitlines() for file in sorted(tmp_path.glob("*.told")))
    assert first == second
    told = check_torchrun(first)
    assert (told.nnodes, told.rdzv_id, told.rdzv_backend, told.rdzv_endpoint) == ("2", "41", "c10d", "node7:29500")


def test_a_job_of_kubernetes_starts_a_torchrun_in_every_container():
    (job,) = (found for block in blocks("yaml") if (found := yaml.safe_load(block))["kind"] == "PyTorchJob")
    kinds = job["spec"]["pytorchReplicaSpecs"]
    assert (kinds["Master"]["replicas"], kinds["Worker"]["replicas"]) == (1, 3)
    for machines in kinds.values():
        template = machines["template"]["spec"]
        (container,) = template["containers"]
        assert container["name"] == "pytorch"
        program, *arguments = container["command"] + container["args"]
        assert program == "torchrun"
        check_torchrun(arguments)
        assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in template["volumes"]}


@pytest.mark.parametrize("line", re.findall(r"^torchrun (.*?)(?: +#.*)?$", PAGE, re.MULTILINE))
def test_every_torchrun_of_the_page_is_understood(line: str):
    check_torchrun(line.split())
