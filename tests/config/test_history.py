"""REPLICATOR_LITESTREAM_URL: what Litestream is given, and whether memory goes with its disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.base.errors import SettingsError
from replicator_kuma.config.child_environments import kuma_environment
from replicator_kuma.config.settings import Settings

KEYS = {
    "AWS_ACCESS_KEY_ID": "aws-id",
    "AWS_SECRET_ACCESS_KEY": "aws-key",
    "AWS_DEFAULT_REGION": "eu-1",
    "B2_ACCOUNT_ID": "b2-id",
    "B2_ACCOUNT_KEY": "b2-key",
    "AZURE_ACCOUNT_NAME": "azure",
    "AZURE_ACCOUNT_KEY": "azure-key",
    "GOOGLE_APPLICATION_CREDENTIALS": "/etc/google.json",
    "RESTIC_PASSWORD": "restic",
    "REPLICATOR_NOTIFY": "ntfys://h.example/topic",
    "SSH_AUTH_SOCK": "/run/agent",
    "PATH": "/usr/bin",
}
GIVEN = {
    "file:///srv": {},
    "s3://b": {n: KEYS[n] for n in KEYS if n.startswith("AWS_")},
    "b2://b?endpoint=https://s3.x": {
        "AWS_ACCESS_KEY_ID": "b2-id",
        "AWS_SECRET_ACCESS_KEY": "b2-key",
    },
    "abs://c": {
        "AZURE_ACCOUNT_NAME": "azure",
        "AZURE_ACCOUNT_KEY": "azure-key",
        "LITESTREAM_AZURE_ACCOUNT_KEY": "azure-key",
    },
    "gs://c": {"GOOGLE_APPLICATION_CREDENTIALS": "/etc/google.json"},
    "sftp://u:p@nas/x?host-key=k": {},
}


@pytest.mark.parametrize("url", GIVEN)
def test_litestream_gets_the_keys_of_its_own_store_alone(url: str) -> None:
    settings = Settings.load({**KEYS, "REPLICATOR_LITESTREAM_URL": url})
    assert settings.history_environment == {"PATH": "/usr/bin", **GIVEN[url]}


def test_a_wrong_url_is_named_and_never_shown() -> None:
    with pytest.raises(SettingsError, match=r"REPLICATOR_LITESTREAM_URL is \(secret\)") as why:
        Settings.load({"REPLICATOR_LITESTREAM_URL": "sftp://u:hidden@nas/x"})
    assert "hidden" not in str(why.value)


def test_kuma_gets_no_key_of_litestream() -> None:
    kept = kuma_environment({"LITESTREAM_ACCESS_KEY_ID": "x", "TZ": "UTC"}, Path("/data"))
    assert kept == {"TZ": "UTC", "DATA_DIR": "/data/"}


@pytest.mark.parametrize(
    ("state", "url", "forgetful"),
    [
        ("", "file:///srv", True),
        ("/data/replicator", "file:///srv", True),
        ("/data-of-another", "file:///srv", False),
        ("/state", "file:///srv", False),
        ("", "", False),
    ],
)
def test_whether_memory_goes_with_the_disk(state: str, url: str, forgetful: bool) -> None:
    values = {"DATA_DIR": "/data", "REPLICATOR_STATE_DIR": state, "REPLICATOR_LITESTREAM_URL": url}
    assert Settings.load(values).forgetful is forgetful


@pytest.mark.parametrize("given", ["environment", "REPLICATOR_LITESTREAM_URL_FILE", "env file"])
def test_the_placeholder_in_the_url_is_refused_wherever_it_stands(
    given: str, tmp_path: Path
) -> None:
    """Kubernetes' manifests hand the URL to the pod by its environment."""
    url = "s3:https://s3.example.com/change-me/history"
    file = tmp_path / "file"
    file.write_text(url if given.endswith("_FILE") else f"REPLICATOR_LITESTREAM_URL={url}\n")
    values = {
        "environment": {"REPLICATOR_LITESTREAM_URL": url},
        "env file": {"REPLICATOR_ENV_FILE": str(file)},
    }.get(given, {given: str(file)})
    with pytest.raises(SettingsError) as why:
        Settings.load(values)
    assert str(why.value) == (
        "REPLICATOR_LITESTREAM_URL is (secret): expected a value of your own, not 'change-me'"
    )


@pytest.mark.parametrize("other", [{}, {"SSL_CERT_FILE": "/etc/ssl/all.pem"}])
def test_litestream_gets_the_certificates_of_amazon_s_tools_under_a_name_that_it_takes(
    other: dict[str, str],
) -> None:
    given = {"AWS_CA_BUNDLE": "/etc/ssl/own.pem", "REPLICATOR_LITESTREAM_URL": "s3://b", **other}
    found = Settings.load(given).history_environment
    assert found == {"SSL_CERT_FILE": "/etc/ssl/own.pem"}
