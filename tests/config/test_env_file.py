"""REPLICATOR_ENV_FILE: variables from a file, which compose reads too."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.env_file import added, parse
from replicator_kuma.config.settings import Mode, Settings
from tests.support.tools import ROOT

SECRET = "correct horse # battery"


def load(text: str, folder: Path, **environ: str) -> Settings:
    (folder / "env").write_text(text)
    return Settings.load({"REPLICATOR_ENV_FILE": str(folder / "env"), **environ})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("  export A = b  ", "b"),
        ("A=b # why", "b"),
        ("A=b#c", "b#c"),
        ("A= # nothing", ""),
        ("A='b # c'", "b # c"),
        ('A="b"  # why', "b"),
        (r"A=$b\n", r"$b\n"),
        ("A=b=c", "b=c"),
        ("A=it's", "it's"),
        ("A=", ""),
        ("A=b\r", "b"),
    ],
)
def test_a_line_is_read_as_compose_reads_it(line: str, value: str) -> None:
    assert parse(f"# a comment\n\n{line}\n") == {"A": value}


@pytest.mark.parametrize("line", ["secret", "A B=secret", "A='secret", "A='secret'x", "=secret"])
def test_a_line_that_cannot_be_understood_is_named_by_its_number_only(
    line: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(f"OK=1\n{line}\n", tmp_path)
    assert "REPLICATOR_ENV_FILE" in str(caught.value)
    assert "line 2 is not NAME=value" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_opens_the_repository_may_stand_there(tmp_path: Path) -> None:
    text = f"""
        REPLICATOR_MODE=RESTORE
        RESTIC_REPOSITORY=s3:https://s3.example.com/bucket
        RESTIC_PASSWORD='{SECRET}'
        AWS_ACCESS_KEY_ID=id
        REPLICATOR_REPOSITORY_2=/srv/second
        REPLICATOR_PASSWORD_2=other
        REPLICATOR_2_AWS_ACCESS_KEY_ID=other id
        RESTORE_MERGE_STRATEGY=DEFAULT
        NTFY_URL=https://ntfy.example.com/topic
    """
    settings = load(text, tmp_path)
    assert settings.mode is Mode.RESTORE
    assert settings.strategy.heals
    assert settings.restic_environment["RESTIC_PASSWORD"] == SECRET
    assert settings.restic_environment["AWS_ACCESS_KEY_ID"] == "id"
    assert settings.second_environment["AWS_ACCESS_KEY_ID"] == "other id"
    assert settings.ntfy_url == "https://ntfy.example.com/topic"
    assert SECRET not in repr(settings)


def test_kuma_gets_nothing_of_it(tmp_path: Path) -> None:
    text = f"RESTIC_PASSWORD='{SECRET}'\nKUMA_PORT=3001\nNODE_OPTIONS=--inspect\nREPLICATOR_FLEET=x"
    settings = load(text, tmp_path, PATH="/bin")
    assert settings.kuma_environment == {"PATH": "/bin", "DATA_DIR": "/app/data/"}


def test_what_is_set_wins_by_either_of_its_names() -> None:
    text = "RESTIC_PASSWORD=file\nAWS_ACCESS_KEY_ID_FILE=/file\nREPLICATOR_FLEET=file"
    given = {"RESTIC_PASSWORD_FILE": "/given", "AWS_ACCESS_KEY_ID": "given"}
    assert added(given, text) == {"REPLICATOR_FLEET": "file"}


def test_a_typo_there_is_named_as_in_the_environment(tmp_path: Path) -> None:
    settings = load("REPLICATOR_INSTANC=fra-1", tmp_path)
    assert settings.warnings == (
        "REPLICATOR_INSTANC is not a variable of replicator-kuma; did you mean "
        "REPLICATOR_INSTANCE?",
    )


@pytest.mark.parametrize("content", [None, b"A=\xff\n"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "env").write_bytes(content)
    with pytest.raises(SettingsError, match=r"REPLICATOR_ENV_FILE is .*: expected a readable file"):
        Settings.load({"REPLICATOR_ENV_FILE": str(tmp_path / "env")})


def test_the_example_as_it_stands_is_refused_and_says_what_to_edit(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text()
    with pytest.raises(SettingsError) as caught:
        load(example, tmp_path)
    for name in (
        "REPLICATOR_INSTANCE",
        "RESTIC_REPOSITORY",
        "RESTIC_PASSWORD",
        "AWS_ACCESS_KEY_ID",
    ):
        assert f"\n  {name} is " in str(caught.value)
    settings = load(
        example.replace("change-me", "0123456789abcdef").replace("\n#R", "\nR"), tmp_path
    )
    assert settings.warnings == ()
    assert str(settings.http) == "0.0.0.0:8067"
    assert settings.restic_environment["AWS_SECRET_ACCESS_KEY"] == "0123456789abcdef"


def test_a_health_check_goes_by_it_and_never_fails_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "env"
    monkeypatch.setenv("REPLICATOR_ENV_FILE", str(path))
    for name in ("DATA_DIR", "REPLICATOR_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    path.write_text("DATA_DIR=/srv/kuma\nREPLICATOR_RESTORE_INTERVAL=1h\n")
    assert Settings.of_folders({}).data_dir == Path("/srv/kuma")
    assert Settings.of_schedule({}).restore_interval == 3600
    path.write_text("not a line\n")
    assert Settings.of_folders({}).data_dir == Path("/app/data")
