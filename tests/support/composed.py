"""What compose makes of its files, without a container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def composed(*files: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The file that compose makes of these, each merged over the ones before it.

    Fails with what compose says where it accepts one not.
    """
    done = subprocess.run(
        [
            Path(sys.executable).with_name("podman-compose"),
            *(word for file in files for word in ("-f", str(file))),
            "config",
        ],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found
