"""Compose files, the stack for Portainer and the template for Unraid ask for the same."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from replicator_kuma import __version__
from replicator_kuma.config.child_environments import handed_to_restic
from replicator_kuma.config.variables import BACKEND_SECRETS, VARIABLES
from tests.support.composed import composed
from tests.support.tools import ROOT

COMPOSE = ROOT / "deploy" / "compose"
LEADER = yaml.safe_load((ROOT / "docker-compose.leader.yml").read_text())["services"]["kuma"]
EXAMPLE = set(re.findall(r"(?m)^#?([A-Z_0-9]+)=", (ROOT / ".env.example").read_text()))
PORTS = {"KUMA_PORT", "HTTP_PORT"}
GIVEN = {
    "REPLICATOR_MODE": "BACKUP",
    "REPLICATOR_INSTANCE": "fra-1",
    "RESTIC_REPOSITORY": "/repository",
    "RESTIC_PASSWORD": "only-a-test",
}
SHOWN = {"AWS_ACCESS_KEY_ID", "RESTIC_REPOSITORY"}
"""a name and a place, which a person has to see while typing"""
RIGHTS = ("cap_drop", "cap_add", "security_opt", "stop_grace_period", "ports")


def resolved(file: Path, environment: dict[str, str]) -> dict[str, Any]:
    """The services that compose makes of a file; fails with what it says."""
    found: dict[str, Any] = composed(file, environment=environment)["services"]
    return found


@pytest.mark.parametrize("name", ["mariadb", "portainer"])
def test_kuma_has_the_rights_of_the_leader_s_file(name: str) -> None:
    service = yaml.safe_load((COMPOSE / f"{name}.yml").read_text())["services"]["kuma"]
    assert {one: service[one] for one in RIGHTS} == {one: LEADER[one] for one in RIGHTS}
    assert (COMPOSE / service["build"]).resolve() == ROOT


@pytest.mark.parametrize("name", ["mariadb", "portainer"])
def test_without_a_role_nothing_starts(name: str) -> None:
    """A leader that comes up as a replica loses what people have edited."""
    given = {name: value for name, value in GIVEN.items() if name != "REPLICATOR_MODE"}
    with pytest.raises(AssertionError, match="BACKUP"):
        resolved(COMPOSE / f"{name}.yml", given)
    found = resolved(COMPOSE / f"{name}.yml", GIVEN)
    assert found["kuma"]["environment"]["REPLICATOR_MODE"] == "BACKUP"


def test_both_sides_of_the_database_know_the_same_login() -> None:
    services = resolved(COMPOSE / "mariadb.yml", GIVEN)
    server, kuma = services["mariadb"]["environment"], services["kuma"]["environment"]
    assert kuma["UPTIME_KUMA_DB_HOSTNAME"] == "mariadb"
    assert kuma["UPTIME_KUMA_DB_NAME"] == server["MARIADB_DATABASE"]
    assert kuma["UPTIME_KUMA_DB_USERNAME"] == server["MARIADB_USER"]
    assert kuma["UPTIME_KUMA_DB_PASSWORD_FILE"] == server["MARIADB_PASSWORD_FILE"]
    assert services["kuma"]["depends_on"]["mariadb"]["condition"] == "service_healthy"
    assert "only-a-test" not in str(services), "the container's environment has no secrets"


def test_portainer_is_asked_for_all_that_the_example_has() -> None:
    asked = resolved(COMPOSE / "portainer.yml", GIVEN)["kuma"]["environment"]
    assert set(asked) == (EXAMPLE - PORTS) | {"REPLICATOR_MODE"}


# ------------------------------------------------------------------ Unraid

TEMPLATE = ElementTree.parse(ROOT / "deploy" / "unraid" / "replicator-kuma.xml").getroot()
CONFIGS = [dict(one.attrib) for one in TEMPLATE.iter("Config")]


def text(name: str) -> str:
    found = TEMPLATE.findtext(name)
    assert found, name
    return found


def test_the_template_asks_for_variables_that_there_are_and_hides_secrets() -> None:
    names = [one["Target"] for one in CONFIGS if one["Type"] == "Variable"]
    assert len(set(names)) == len(names)
    for one in CONFIGS:
        if one["Type"] == "Variable":
            name = one["Target"]
            assert name in VARIABLES or handed_to_restic(name), name
            secret = name in BACKEND_SECRETS or (name in VARIABLES and VARIABLES[name].secret)
            assert (one["Mask"] == "true") == (secret and name not in SHOWN), name
    required = {one["Target"] for one in CONFIGS if one["Required"] == "true"}
    assert required == set(GIVEN) | {"/app/data", "3001"}
    assert set(names) <= EXAMPLE | {"REPLICATOR_MODE"}


def test_the_template_s_container_has_the_rights_of_the_leader_s_file() -> None:
    options = shlex.split(text("ExtraParams"))
    dropped = [one.split("=")[1] for one in options if one.startswith("--cap-drop")]
    added = [one.split("=")[1] for one in options if one.startswith("--cap-add")]
    assert (dropped, added) == (LEADER["cap_drop"], LEADER["cap_add"])
    assert f"--security-opt={LEADER['security_opt'][0]}" in options
    assert "--stop-timeout=600" in options
    assert LEADER["stop_grace_period"] == "10m"
    assert text("Privileged") == "false"
    assert text("Repository").endswith(f":{__version__}")
