"""python -m fuzz [TARGET …]: atheris over each target for FUZZ_SECONDS (default 10).

Ends with 1 on a finding. Its input stays in .fuzz/TARGET-crash-…; `python -m fuzz TARGET FILE`
runs it again. Each target has a process of its own: libFuzzer ends its process when it is done.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOUND = ROOT / ".fuzz"
DEFAULT_SECONDS = 10
_LARGEST = 16 << 10


def fuzz(name: str, inputs: list[str]) -> None:
    """Run one target; never returns. With files, only these."""
    import atheris

    with atheris.instrument_imports(include=["replicator_kuma"]):
        from fuzz.targets import TARGETS, Seeds, World
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="replicator-fuzz-", dir=place) as scratch:
        world = World(Path(scratch) / "world")
        corpus = Path(scratch) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(Seeds(world).of(name)):
            (corpus / str(number)).write_bytes(seed)
        options = [f"-artifact_prefix={FOUND}/{name}-", f"-max_len={_LARGEST}", "-timeout=20"]
        options += ["-rss_limit_mb=2048", "-print_final_stats=1"]
        options += inputs or [f"-max_total_time={seconds()}", str(corpus)]
        target = TARGETS[name]
        atheris.Setup([sys.argv[0], *options], lambda data: target(world, data))
        atheris.Fuzz()


def seconds() -> int:
    return int(os.environ.get("FUZZ_SECONDS") or DEFAULT_SECONDS)


def main() -> int:
    from fuzz.targets import TARGETS

    FOUND.mkdir(exist_ok=True)
    bad = []
    for name in sys.argv[1:] or TARGETS:
        began = time.monotonic()
        call = [sys.executable, "-m", "fuzz", "--one", name]
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, errors="replace")
        runs = re.search(r"number_of_executed_units: *(\d+)", done.stderr)
        count = runs[1] if runs else "?"
        print(f"{name:10} {count:>9} runs in {time.monotonic() - began:4.0f} s", flush=True)
        if done.returncode:
            bad.append(name)
            print(done.stdout[-2000:], done.stderr[-2000:])
    print(f"findings in: {', '.join(bad)} (inputs in {FOUND.name}/)" if bad else "no finding")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    if len(sys.argv) == 3 and Path(sys.argv[2]).is_file():
        fuzz(sys.argv[1], sys.argv[2:])
    sys.exit(main())
