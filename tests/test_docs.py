"""The documentation says what the program does: tables, commands and links are compared."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

from replicator_kuma import __version__
from replicator_kuma.cli.main import cli
from replicator_kuma.config import variables
from tests.support import exit_codes, log_calls
from tests.support.tiers import in_quick

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").glob("*.md"))
ROOT_PAGES = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")]
PAGES = [*ROOT_PAGES, *DOCS]
LONGEST_README = 900
"""words, of which code and addresses are some: a newcomer reads it in five minutes"""

CONTAINERS = "tests/containers/test_image.py"
TRY = "tests/containers/test_try.py"
NO_CLUSTER = "not run: needs a cluster; tests/containers/test_kubernetes.py runs the pods"
THE_MACHINE = "not run: changes the machine; tests/deploy/test_systemd.py looks at the files"
THEIR_CONTAINER = "not run: the name is that of the reader's own container"
TYPED: dict[str, str] = {
    "git clone <this repository> && cd replicator-kuma": "not run: needs a network",
    "install -m 0600 .env.example .env": "tests/config/test_env_file.py",
    "docker compose -f deploy/try/compose.yml up -d --build": TRY,
    "docker compose -f deploy/try/compose.yml down -v": TRY,
    "docker compose -f docker-compose.leader.yml up -d --build": CONTAINERS,
    "docker compose -f docker-compose.replica.yml up -d --build": CONTAINERS,
    "docker compose -f docker-compose.replica.yml exec kuma replicator status": CONTAINERS,
    "docker compose -f docker-compose.replica.yml exec kuma replicator doctor": CONTAINERS,
    "docker compose -f docker-compose.replica.yml logs kuma": CONTAINERS,
    "make demo": "not run: it installs for minutes; what it shows is tests/e2e/test_two_kumas.py",
    "make test": "not run: it is what runs this",
    # docs/
    "docker compose -f docker-compose.replica.yml -f docker-compose.override.yml up -d --build": (
        "not run: the leader's line with the replica's file, which are run each"
    ),
    "docker stop uptime-kuma-main": THEIR_CONTAINER,
    "docker update --restart=no uptime-kuma-main": THEIR_CONTAINER,
    "docker compose -f docker-compose.replica.yml -f docker-compose.override.yml run --rm --build "
    "--entrypoint replicator kuma diff": "tests/e2e/test_moving.py",
    "docker compose -f docker-compose.leader.yml -f docker-compose.override.yml exec kuma "
    "replicator status": "tests/e2e/test_moving.py",
    "docker compose -f docker-compose.replica.yml -f docker-compose.override.yml exec kuma "
    "replicator status": "tests/e2e/test_moving.py",
    "docker stop uptime-kuma": THEIR_CONTAINER,
    "docker update --restart=no uptime-kuma": THEIR_CONTAINER,
    "docker inspect uptime-kuma --format '{{json .Mounts}}'": THEIR_CONTAINER,
    "docker compose -f docker-compose.leader.yml -f docker-compose.override.yml up -d --build": (
        CONTAINERS
    ),
    "docker compose --env-file .env -f deploy/compose/sidecar.yml up -d": (
        "tests/containers/test_sidecar.py"
    ),
    "docker compose --env-file .env -f deploy/compose/sidecar.yml exec replicator "
    "replicator doctor": "tests/containers/test_sidecar.py",
    "docker compose --env-file .env -f deploy/compose/mariadb.yml up -d --build": (
        "tests/deploy/test_compose.py"
    ),
    "docker compose -f docker-compose.leader.yml logs --tail 50 kuma": CONTAINERS,
    "docker compose -f docker-compose.leader.yml exec -T kuma tee /proc/1/fd/2 "
    "< deploy/fluent-bit/trial.jsonl": CONTAINERS,
    "cat deploy/fluent-bit/trial.jsonl >> /var/log/replicator-kuma.log": (
        "tests/deploy/test_fluent_bit.py"
    ),
    "kubectl -n kuma exec -i deployment/kuma -- tee /proc/1/fd/2 "
    "< deploy/fluent-bit/trial.jsonl": NO_CLUSTER,
    "mkdir -p secrets && openssl rand -hex 24 > secrets/mariadb-password": (
        "not run: a file of the reader's; tests/deploy/test_compose.py looks at who reads it"
    ),
    "docker build -t registry.example.com/replicator-kuma:0.3.0 .": CONTAINERS,
    "docker push registry.example.com/replicator-kuma:0.3.0": "not run: needs a registry",
    "install -m 0600 .env.example deploy/kubernetes/mine/.env": "tests/deploy/test_kubernetes.py",
    "kubectl create namespace kuma": NO_CLUSTER,
    "kubectl diff -k deploy/kubernetes/mine": NO_CLUSTER,
    "kubectl apply -k deploy/kubernetes/mine": NO_CLUSTER,
    "kubectl -n kuma rollout status deployment/kuma": NO_CLUSTER,
    "kubectl -n kuma exec deployment/kuma -- replicator status": NO_CLUSTER,
    "kubectl -n kuma exec deployment/kuma -- replicator doctor": NO_CLUSTER,
    "kubectl -n kuma create job --from=cronjob/kuma-chaos chaos-now": NO_CLUSTER,
    "kubectl -n kuma logs --follow job/chaos-now": NO_CLUSTER,
    "install -d -m 0750 -g uptime-kuma /etc/replicator-kuma": THE_MACHINE,
    "install -m 0640 -g uptime-kuma .env.example /etc/replicator-kuma/env": THE_MACHINE,
    "install -m 0644 deploy/systemd/replicator-kuma.service /etc/systemd/system/": THE_MACHINE,
    "install -m 0644 deploy/systemd/replicator-kuma-beside.service "
    "/etc/systemd/system/": THE_MACHINE,
    "install -D -m 0644 deploy/systemd/uptime-kuma.service.d/replicator.conf -t "
    "/etc/systemd/system/uptime-kuma.service.d/": THE_MACHINE,
    "install -m 0644 deploy/cron/replicator-kuma /etc/cron.d/": THE_MACHINE,
    "systemctl daemon-reload": THE_MACHINE,
    "echo 'net.ipv4.ping_group_range = 0 2147483647' > /etc/sysctl.d/60-ping.conf && "
    "sysctl --system": THE_MACHINE,
    "systemctl enable --now replicator-kuma": THE_MACHINE,
    "systemctl enable --now replicator-kuma-beside": THE_MACHINE,
    "systemctl restart uptime-kuma": THE_MACHINE,
    "/opt/replicator/bin/replicator agent --install /usr/local/lib/replicator-kuma": THE_MACHINE,
    "python3 -m venv /opt/replicator && /opt/replicator/bin/pip install .": (
        "not run: it is what scripts/fetch-tools does, at a place of the machine's own"
    ),
}
"""The commands that pages show, other than replicator's own: the test that runs each, or why none
does. Those of `replicator` are parsed by the program."""


def block(page: str, name: str) -> str:
    """The part of a page of docs/ between a marker and the end marker after it."""
    text = (ROOT / "docs" / page).read_text()
    found = re.search(rf"<!-- {re.escape(name)}[^>]*-->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert found, f"{page} has no block {name!r}"
    return found.group(1).strip()


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"(?ms)^\s*```.*?^\s*```$", "", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", prose(page)):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        while name in found:
            name += "-1"
        found.add(name)
    return found


def links(page: Path) -> list[str]:
    """What a page leads to: links, addresses in angle brackets, pictures of HTML."""
    text = prose(page)
    return [
        *re.findall(r"\]\(([^)\s]+)\)", text),
        *re.findall(r"<(https?://[^>]+)>", text),
        *re.findall(r'(?:src|srcset|href)="([^"]+)"', text),
    ]


def typed(page: Path) -> Iterator[str]:
    """The commands that a page shows somebody typing, without their remarks."""
    for line in re.findall(r"(?m)^ *\$ (.+)$", page.read_text()):
        yield re.sub(r"\s+# .*", "", line).strip()


def commands() -> dict[str, click.Command]:
    context = click.Context(cli)
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def test_the_table_of_variables_is_the_program_s() -> None:
    assert block("settings.md", "variables") == variables.markdown().strip()


def test_the_table_of_exit_codes_is_the_program_s() -> None:
    assert block("exit-codes.md", "exit codes") == exit_codes.markdown()


def test_the_table_of_events_is_the_program_s() -> None:
    assert block("logs.md", "events") == log_calls.markdown()


def test_every_exit_code_is_explained() -> None:
    said = exit_codes.meanings()
    assert [c.__name__ for c in exit_codes.classes() if c.exit_code not in said] == []


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_is_in_the_list_and_has_an_example(name: str) -> None:
    assert f"`replicator {name}" in (ROOT / "docs" / "commands.md").read_text()
    assert "Example" in (commands()[name].help or "")


def test_the_commands_that_pages_show_exist_with_their_options() -> None:
    known = commands()
    shown = [
        line
        for page in PAGES
        for line in re.findall(
            r"replicator ((?:[a-z]+)(?: --?[a-z-]+[^`\n|&#()]*)?)", page.read_text()
        )
    ]
    checked = 0
    for line in shown:
        name, *rest = line.split()
        options = [word.split("=")[0] for word in rest if word.startswith("--")]
        if name not in known:
            assert not options, f"no command {name!r}: {line}"
            continue
        have = {o for p in known[name].params for o in p.opts} | {"--help", "--version"}
        assert set(options) <= have, line
        checked += 1
    assert checked > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_somewhere(page: Path) -> None:
    """Files and anchors are looked at; addresses outside only by their form."""
    for link in links(page):
        outside = urlsplit(link)
        if outside.scheme:
            assert outside.hostname, link
            loopback = outside.hostname == "127.0.0.1"
            assert outside.scheme == "https" or loopback, f"{page.name}: {link}"
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def test_the_readme_is_short_and_leads_to_each_page() -> None:
    assert len(README.split()) <= LONGEST_README
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(ROOT / "README.md")}
    assert {page.name for page in DOCS if page not in reached} == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_readme_s_pictures_are_small_and_as_wide_as_it_shows_them(scheme: str) -> None:
    """tests/containers/test_try.py makes them again."""
    picture = (ROOT / "docs" / "images" / f"page-{scheme}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert int.from_bytes(picture[16:20]) == 1280
    assert len(picture) < 150_000


def of_the_program(line: str) -> str | None:
    """What follows `replicator` in a line that runs it, here or in a container; or None."""
    found = re.fullmatch(r"(?:[A-Z_]+=\S+ )*(?:docker compose .* exec \w+ )?replicator (.+)", line)
    return found[1] if found else None


@pytest.mark.parametrize("page", [*ROOT_PAGES, *DOCS], ids=lambda page: page.name)
def test_each_command_that_a_page_shows_can_be_typed(page: Path) -> None:
    """The program parses its own. Of others a test runs each, or TYPED says why none does."""
    for line in typed(page):
        words = of_the_program(line)
        if words is not None:
            name, *rest = shlex.split(words)
            commands()[name].make_context(name, rest)  # raises what the shell would show
        elif not line.startswith("export "):
            assert line in TYPED, f"{page.name}: {line}"


def test_each_command_of_others_has_its_test_or_its_reason() -> None:
    shown = {line for page in PAGES for line in typed(page)}
    assert set(TYPED) - shown == set()
    for line, how in TYPED.items():
        named = re.findall(r"tests/[\w/]+\.py", how)
        assert named or how.startswith("not run: "), line
        assert all((ROOT / name).exists() for name in named), line
        for file in re.findall(r" -f (\S+)", line):
            own = file == "docker-compose.override.yml"  # which its reader writes
            assert own or (ROOT / file).exists(), line


def test_the_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in re.findall(r"`(tests/[\w/]+(?:\.py)?)/?`", text):
        assert (ROOT / name).exists(), name


def test_the_modules_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    listing = text[text.index("## Folders") : text.index("## Words")]
    names = re.findall(r"([a-z_]+\.py)", listing)
    have = {path.name for path in (ROOT / "replicator_kuma").rglob("*.py")}
    assert len(names) > 20
    assert sorted(set(names) - have) == []


def test_each_rule_has_a_test_in_the_quick_tier() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rules = text[text.index("## What always holds") : text.index("## An apply")]
    rows = re.findall(r"(?m)^\| (\d+)\. .*?\|.*?\| (.*?) \|", rules)
    assert [number for number, _tests in rows] == [str(n) for n in range(1, 12)]
    for number, tests in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert named, number
        for name in named:
            assert (ROOT / name).exists(), name
            assert in_quick(name, 0), name


def test_the_answers_to_a_newcomer_exist() -> None:
    text = (ROOT / "docs" / "newcomer-questions.md").read_text()
    for name in re.findall(r"`([a-z_]+/[\w/]+\.py)`", text[text.index("## Answers") :]):
        assert (ROOT / "replicator_kuma" / name).exists(), name
