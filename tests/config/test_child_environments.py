"""What child processes see of the environment: each its own part, whatever else is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.config.child_environments import (
    RESTIC_IGNORED,
    kuma_environment,
    restic_environment,
    second_environment,
    tool_environment,
    unknown_to_restic,
)
from replicator_kuma.config.settings import Settings

DATA = Path("/app/data")
PLACE = {"RESTIC_REPOSITORY": "/srv/one", "RESTIC_PASSWORD": "battery staple"}
SECRETS = {
    **PLACE,
    "AWS_SECRET_ACCESS_KEY": "s3",
    "NTFY_TOKEN": "tk",
    "REPLICATOR_PASSWORD_2": "second",
    "REPLICATOR_2_B2_ACCOUNT_KEY": "b2",
    "VAULT_TOKEN": "vault",
    "CREDENTIALS_DIRECTORY": "/run/credentials",
    "SSH_AUTH_SOCK": "/run/agent",
}
KUMA = {"UPTIME_KUMA_DB_PASSWORD": "kuma's", "NODE_OPTIONS": "--x", "PATH": "/bin"}

OPENS = (
    *("RESTIC_KEY_HINT", "RESTIC_CACERT", "RESTIC_TLS_CLIENT_CERT", "RESTIC_REST_PASSWORD"),
    *("RESTIC_HTTP_USER_AGENT", "RESTIC_AWS_ASSUME_ROLE_ARN", "RESTIC_READ_CONCURRENCY"),
    *("RESTIC_COMPRESSION", "RESTIC_PACK_SIZE", "RESTIC_FEATURES", "AWS_PROFILE", "RCLONE_CONFIG"),
    *("RCLONE_CONFIG_NAS_TYPE", "RCLONE_BWLIMIT", "OS_AUTH_URL", "B2_ACCOUNT_ID", "KRB5CCNAME"),
)
MEANS_ANOTHER = (
    *("RCLONE_DRY_RUN", "RCLONE_EXCLUDE", "RCLONE_INCLUDE_FROM", "RCLONE_FILTER", "RCLONE_MAX_AGE"),
    *("RCLONE_IGNORE_EXISTING", "RCLONE_FILES_FROM", "RCLONE_MIN_SIZE", "RCLONE_IMMUTABLE"),
    *("RESTIC_TEST_CLEANUP", "RESTIC_WHAT_IS_NEW"),
)


@pytest.mark.parametrize("name", OPENS)
def test_restic_gets_what_opens_a_repository(name: str) -> None:
    assert restic_environment({**PLACE, name: "1"}).get(name) == "1"


@pytest.mark.parametrize("name", [*sorted(RESTIC_IGNORED), *MEANS_ANOTHER])
def test_restic_gets_nothing_that_changes_what_a_call_means(name: str) -> None:
    assert restic_environment({**PLACE, name: "1"}) == PLACE
    command = {"RESTIC_PASSWORD_COMMAND": "pass show it"}
    assert restic_environment({**command, name: "1"}) == command
    own = {"REPLICATOR_REPOSITORY_2": "/srv/two", f"REPLICATOR_2_{name}": "1", name: "1"}
    assert second_environment(own) == {"RESTIC_REPOSITORY": "/srv/two"}


def test_a_variable_of_restic_that_nobody_knows_is_named() -> None:
    assert unknown_to_restic("RESTIC_WHAT_IS_NEW")
    of_second = {"REPLICATOR_REPOSITORY_2": "/srv/two", "REPLICATOR_PASSWORD_2": "x"}
    loaded = Settings.load({**PLACE, **of_second, "REPLICATOR_2_RESTIC_WHAT_IS_NEW": "1"})
    assert any(line.startswith("REPLICATOR_2_RESTIC_WHAT_IS_NEW is no") for line in loaded.warnings)
    known = (*RESTIC_IGNORED, *OPENS, *PLACE, "RESTIC_TEST_CLEANUP", "PATH")
    assert not any(map(unknown_to_restic, known))
    found = Settings.load({**PLACE, "RESTIC_WHAT_IS_NEW": "1", "RESTIC_HOST": "x"}).warnings
    assert [line for line in found if "RESTIC_" in line] == [
        "RESTIC_WHAT_IS_NEW is no variable of restic that is known here: restic does not get it"
    ]


def test_a_password_command_has_the_user_s_own_variables() -> None:
    user = {
        "CREDENTIALS_DIRECTORY": "/run/credentials",
        "GNUPGHOME": "/keys",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
        "MY_VAULT": "a name of the user's own",
    }
    command = {"RESTIC_PASSWORD_COMMAND": "pass show it"}
    others = {**KUMA, "NTFY_TOKEN": "tk", "DATA_DIR": "/x", "PWD": "/elsewhere"}
    found = restic_environment({**user, **command, **others})
    assert found == {
        **user,
        **command,
        **{"NODE_OPTIONS": "--x", "PATH": "/bin", "DATA_DIR": "/x"},
    }
    assert not user.keys() & restic_environment({**user, **PLACE}).keys()


def test_a_second_password_command_sees_nothing_of_the_first_repository() -> None:
    values = {
        **SECRETS,
        "REPLICATOR_REPOSITORY_2": "/srv/two",
        "REPLICATOR_2_RESTIC_PASSWORD_COMMAND": "pass show two",
    }
    del values["REPLICATOR_PASSWORD_2"]
    found = second_environment(values)
    assert found["RESTIC_PASSWORD_COMMAND"] == "pass show two"
    assert found["VAULT_TOKEN"] == "vault"
    assert not {"battery staple", "s3", "tk", "second"} & set(found.values())


@pytest.mark.parametrize(
    "name", ["RCLONE_PASSWORD_COMMAND", "RCLONE_CONFIG_NAS_BEARER_TOKEN_COMMAND"]
)
def test_a_backend_s_own_command_has_the_user_s_variables_too(name: str) -> None:
    user = {"GNUPGHOME": "/keys", "PASSWORD_STORE_DIR": "/store"}
    assert restic_environment({**PLACE, **user, name: "pass nas", "NTFY_TOKEN": "tk"}) == {
        **PLACE,
        **user,
        name: "pass nas",
    }
    second = {"REPLICATOR_REPOSITORY_2": "/srv/two", f"REPLICATOR_2_{name}": "pass nas"}
    found = second_environment({**SECRETS, **user, **second})
    assert found.items() >= {**user, name: "pass nas"}.items()
    assert not {"battery staple", "s3", "tk"} & set(found.values())
    first = {"REPLICATOR_REPOSITORY_2": "/srv/two", **user, name: "pass one"}
    assert second_environment(first) == {"RESTIC_REPOSITORY": "/srv/two"}, "not its command"


def test_tools_get_a_data_dir_only_where_the_user_has_set_it() -> None:
    """`docker compose` takes a variable of ours before the one in its own .env."""
    assert "DATA_DIR" not in tool_environment(KUMA, DATA)
    assert tool_environment({**KUMA, "DATA_DIR": "/srv/kuma"}, DATA)["DATA_DIR"] == "/app/data/"


def test_kuma_gets_no_secret_of_ours() -> None:
    kuma = kuma_environment({**SECRETS, **KUMA}, DATA)
    assert kuma == {**KUMA, "DATA_DIR": "/app/data/"}
    tool = tool_environment(
        {**SECRETS, **KUMA, "DATA_DIR": "/app/data", "DOCKER_HOST": "ssh://nas"}, DATA
    )
    assert tool == {**kuma, "DOCKER_HOST": "ssh://nas", "SSH_AUTH_SOCK": "/run/agent"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nas\r", "ends in a carriage return"),
        ('"nas"', "stands in quotes"),
        ("'nas'", "stands in quotes"),
    ],
)
def test_what_an_env_file_leaves_in_a_value_is_told(value: str, words: str) -> None:
    for name in ("RESTIC_PASSWORD", "AWS_REGION", "REPLICATOR_2_AWS_REGION"):
        found = Settings.load({**PLACE, name: value}).warnings
        (line,) = [one for one in found if words in one]
        assert line.startswith(f"{name} ")
        assert "nas" not in line
    assert not any(words in one for one in Settings.load({"OTHER": value}).warnings)
    commands = Settings.load({"REPLICATOR_KUMA_STOP_COMMAND": '"/a b/stop"'})
    assert not any("quotes" in one for one in commands.warnings)
