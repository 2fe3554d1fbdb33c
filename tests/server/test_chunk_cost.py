"""What a word costs, in instructions: the same in each run, however busy the machine is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: By Python version: the cost of a word, in ``json.dumps`` of one event, that is made for a chat, written, made for a
#: response, written.
RECORDED = {(3, 11): (0.295, 0.037, 0.331, 0.036)}
#: How much more it may become.
MARGIN = 0.15


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.skipif(sys.version_info[:2] not in RECORDED, reason="no cost is recorded for this version of Python")
def test_word_costs_no_more_than_recorded(tmp_path: Path) -> None:
    out = tmp_path / "out"
    callgrind = ["valgrind", "--tool=callgrind", "--dump-before=getpgid", f"--callgrind-out-file={out}"]
    done = subprocess.run(
        [*callgrind, sys.executable, ROOT / "benchmarks" / "chunk_cost.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "HAYSTACK_TELEMETRY_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    # The first part is the start of the process.
    unit, *parts = [_total(tmp_path / f"out.{number}") for number in range(2, 7)]
    costs = [round(part / unit, 3) for part in parts]
    for cost, recorded in zip(costs, RECORDED[sys.version_info[:2]], strict=True):
        assert cost <= recorded * (1 + MARGIN), f"a word costs more than it did, {costs}: make it cheaper, or record it"
        assert cost >= recorded * (1 - MARGIN), f"a word costs less than it did, {costs}: record it"


def _total(file: Path) -> int:
    found = re.search(r"^totals: (\d+)$", file.read_text(), re.M)
    assert found is not None
    return int(found[1])
