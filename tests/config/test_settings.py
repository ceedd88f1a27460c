"""Settings: what is read, what is refused, and what is passed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from replicator_kuma.adapters.notify import Kind
from replicator_kuma.adapters.peers import Peer
from replicator_kuma.base.errors import SettingsError
from replicator_kuma.base.times import parse_duration
from replicator_kuma.base.windows import Window
from replicator_kuma.config import env_file, variables
from replicator_kuma.config.settings import Mode, Need, Settings, Strategy
from replicator_kuma.dump.catalog import SETTINGS, SETTINGS_NEVER
from replicator_kuma.replication.leader.retention import Care, Keep
from replicator_kuma.replication.shrink import Limit

ALL = (Need.ROLE, Need.REPOSITORY)
GOOD = {
    "REPLICATOR_MODE": "BACKUP",
    "RESTIC_REPOSITORY": "/srv/repository",
    "RESTIC_PASSWORD": "correct horse",
}


def refused(environ: dict[str, str], *needs: Need) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.load({**GOOD, **environ}, {}, needs)
    return str(caught.value)


def test_defaults() -> None:
    settings = Settings.load(GOOD, {}, ALL)
    assert settings.mode is Mode.BACKUP
    assert settings.fleet == "default"
    assert settings.instance
    assert settings.data_dir == Path("/app/data")
    assert settings.state_dir == Path("/app/data/replicator")
    assert (settings.backup_interval, settings.restore_interval) == (300.0, 360.0)
    assert settings.interval == 300.0
    assert settings.ready_timeout == 120.0
    assert settings.include is None
    assert settings.exclude == frozenset()
    assert settings.setting_keys == SETTINGS
    assert settings.strategy is Strategy.SNAPSHOT
    assert settings.local == frozenset()
    assert settings.overrides is None
    assert (settings.compatible, settings.truncate) == (False, False)
    assert (settings.drill_schedule.off, settings.drill) == (True, "load")
    assert settings.kuma_command == ("node", "server/server.js")
    assert settings.kuma_url == "http://127.0.0.1:3001"
    assert settings.kuma_service(supervised=True) == "child"
    assert settings.kuma_service(supervised=False) == "none"
    assert settings.care == Care(Keep(50, 24, 168, 30, 12), 30)
    assert settings.housekeeping == Window.parse("01:00-05:00")
    assert settings.warnings == ()


def test_keeping_all_is_a_word() -> None:
    assert Settings.load({**GOOD, "REPLICATOR_KEEP_LAST": "off"}).care.keep.last is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REPLICATOR_KEEP_LAST", "0"),
        ("REPLICATOR_KEEP_LAST", "many"),
        ("REPLICATOR_KEEP_DAILY", "-1"),
        ("REPLICATOR_KEEP_MONTHLY", "1.5"),
        ("REPLICATOR_CHECK_PARTS", "257"),
        ("REPLICATOR_HOUSEKEEPING_SCHEDULE", "nightly"),
    ],
)
def test_a_wrong_choice_for_housekeeping_is_named(name: str, value: str) -> None:
    assert name in refused({name: value})


def test_every_variable_is_read_or_passed_on() -> None:
    values = {
        "REPLICATOR_FLEET": "blue",
        "REPLICATOR_INSTANCE": "Zürich 1",
        "DATA_DIR": "/data/",
        "REPLICATOR_STATE_DIR": "/state",
        "REPLICATOR_BACKUP_INTERVAL": "30s",
        "REPLICATOR_RESTORE_INTERVAL": "1h30m",
        "REPLICATOR_EXCLUDE_TABLES": "incident, api_key",
        "REPLICATOR_SETTINGS": "+primaryBaseURL, -checkBeta",
        "RESTORE_MERGE_STRATEGY": "notifications_insert_merge",
        "REPLICATOR_LOCAL_ENTITIES": "docker_host, notification",
        "REPLICATOR_OVERRIDES": "/etc/overrides.toml",
        "REPLICATOR_SCHEMA": "compatible",
        "REPLICATOR_ON_MISFIT": "truncate",
        "REPLICATOR_SHRINK_LIMIT": "25%",
        "REPLICATOR_DRILL_SCHEDULE": "Fri 01:00-05:00",
        "REPLICATOR_DRILL": "kuma",
        "REPLICATOR_REPOSITORY_2": "/srv/second",
        "REPLICATOR_PASSWORD_2": "battery staple",
        "REPLICATOR_HOUSEKEEPING_SCHEDULE": "fri 01:00-05:00",
        "REPLICATOR_KEEP_LAST": "7",
        "REPLICATOR_KEEP_HOURS": "6",
        "REPLICATOR_KEEP_HOURLY": "9",
        "REPLICATOR_KEEP_DAILY": "0",
        "REPLICATOR_KEEP_MONTHLY": "3",
        "REPLICATOR_CHECK_PARTS": "5",
        "NTFY_URL": "https://ntfy.example.com/topic",
        "NTFY_TOKEN": "tk_secret",
        "REPLICATOR_SIGNAL_URL": "https://tk_3@ntfy.example.com/hints",
        "REPLICATOR_NOTIFY": "gotifys://h.example/A.token\nping+https://hc.example/uuid ",
        "REPLICATOR_TELL": "failures, drills",
        "REPLICATOR_PEERS": "fra-1=https://fra.example.com/kuma/, nyc-1=http://10.0.0.2:8067",
        "REPLICATOR_HTTP_TOKEN": "shown-by-each-to-all",
        "REPLICATOR_LITESTREAM_URL": "s3:https://cellar.example/bucket/kuma",
        "REPLICATOR_LITESTREAM_STOP": "25s",
        "REPLICATOR_KUMA": "command",
        "REPLICATOR_KUMA_COMMAND": "node 'a b.js'",
        "REPLICATOR_KUMA_DIR": "/kuma",
        "REPLICATOR_KUMA_CONTAINER": "kuma-1",
        "REPLICATOR_KUMA_UNIT": "kuma.service",
        "REPLICATOR_KUMA_STOP_COMMAND": "stop it",
        "REPLICATOR_KUMA_START_COMMAND": "start it",
        "REPLICATOR_KUMA_STATUS_COMMAND": "is it",
        "REPLICATOR_KUMA_URL": "https://kuma.example.com/",
        "REPLICATOR_READY_TIMEOUT": "5m",
        "REPLICATOR_APPLY": "live",
        "REPLICATOR_AGENT_SOCKET": "/run/kuma/agent.sock",
        "REPLICATOR_FAST_START": "on",
        "REPLICATOR_HTTP": "[::]:8067",
        "REPLICATOR_RESTIC": "/opt/restic",
        "REPLICATOR_LOG_FORMAT": "json",
        "REPLICATOR_LOG_LEVEL": "DEBUG",
    }
    mode = "RESTORE_LOCAL_ENTITY_REPLICATION"
    settings = Settings.load({**GOOD, **values, "REPLICATOR_MODE": mode}, {}, ALL)
    assert settings.mode is Mode.RESTORE_LOCAL_ENTITY_REPLICATION
    assert settings.fleet == "blue"
    assert settings.instance == "Zürich 1"
    assert (settings.data_dir, settings.state_dir) == (Path("/data"), Path("/state"))
    assert (settings.backup_interval, settings.restore_interval) == (30.0, 5400.0)
    assert settings.interval == 5400.0
    assert settings.exclude == {"incident", "api_key"}
    assert settings.setting_keys == SETTINGS - {"checkBeta"} | {"primaryBaseURL"}
    assert settings.strategy is Strategy.NOTIFICATIONS_INSERT_MERGE
    assert settings.local == {"docker_host", "notification"}
    assert settings.overrides == Path("/etc/overrides.toml")
    assert (settings.compatible, settings.truncate) == (True, True)
    assert settings.shrink_limit == Limit(25)
    assert (str(settings.drill_schedule), settings.drill) == ("fri 01:00-05:00", "kuma")
    assert settings.care == Care(Keep(7, 6, 9, 0, 3), 5)
    assert settings.second_environment["RESTIC_REPOSITORY"] == "/srv/second"
    assert settings.second_environment["RESTIC_PASSWORD"] == "battery staple"
    assert settings.housekeeping == Window.parse("fri 01:00-05:00")
    assert settings.signal_url == "https://tk_3@ntfy.example.com/hints"
    assert settings.peers == (
        Peer("fra-1", "https://fra.example.com/kuma"),
        Peer("nyc-1", "http://10.0.0.2:8067"),
    )
    history = settings.history_place
    assert history is not None
    assert history.shown == (
        "s3://bucket/kuma/blue/Z%C3%BCrich%201?endpoint=https://cellar.example"
    )
    assert settings.history_stop == 25.0
    assert settings.http_token == "shown-by-each-to-all"
    assert settings.notify == "gotifys://h.example/A.token\nping+https://hc.example/uuid"
    assert (settings.ntfy_url, settings.ntfy_token) == (
        "https://ntfy.example.com/topic",
        "tk_secret",
    )
    assert settings.tell == {Kind.FAILURES, Kind.DRILLS}
    assert settings.kuma_service(supervised=True) == "command"
    assert settings.kuma_service(supervised=False) == "command"
    assert settings.kuma_command == ("node", "a b.js")
    assert settings.kuma_dir == Path("/kuma")
    assert (settings.kuma_container, settings.kuma_unit) == ("kuma-1", "kuma.service")
    assert settings.kuma_stop_command == "stop it"
    assert settings.kuma_start_command == "start it"
    assert settings.kuma_status_command == "is it"
    assert settings.kuma_url == "https://kuma.example.com"
    assert settings.ready_timeout == 300.0
    assert (str(settings.http), settings.http_token) == ("[::]:8067", "shown-by-each-to-all")
    assert settings.restic == "/opt/restic"
    assert (settings.log_format, settings.log_level) == ("json", "debug")
    tested = {*values, *GOOD, "REPLICATOR_TABLES", env_file.NAME}  # test_env_file.py
    assert set(variables.VARIABLES) <= tested


def test_a_drill_is_by_a_window_and_does_something_known() -> None:
    wrong = {"REPLICATOR_DRILL_SCHEDULE": "on fridays", "REPLICATOR_DRILL": "all"}
    said = refused(wrong)
    assert "'on fridays' is no window" in said
    assert "REPLICATOR_DRILL is 'all': expected one of load, kuma, kill" in said


@pytest.mark.parametrize("value", ["", "backup", "BACKUP ", "RESTOR", "LEADER"])
def test_a_mode_is_never_guessed(value: str) -> None:
    assert "REPLICATOR_MODE" in refused({"REPLICATOR_MODE": value}, Need.ROLE)


def test_a_mistyped_mode_is_refused_even_where_none_is_needed() -> None:
    assert "'BACKUPP'" in refused({"REPLICATOR_MODE": "BACKUPP"})
    assert Settings.load({}).mode is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REPLICATOR_FLEET", "a b"),
        ("REPLICATOR_FLEET", "x" * 65),
        ("REPLICATOR_INSTANCE", "a,b"),
        ("REPLICATOR_INSTANCE", "a\nb"),
        ("REPLICATOR_INSTANCE", " a"),
        ("REPLICATOR_BACKUP_INTERVAL", "5"),
        ("REPLICATOR_RESTORE_INTERVAL", "0s"),
        ("REPLICATOR_READY_TIMEOUT", "soon"),
        ("DATA_DIR", "data"),
        ("REPLICATOR_STATE_DIR", "./state"),
        ("REPLICATOR_KUMA_DIR", "kuma"),
        ("REPLICATOR_KUMA", "podman"),
        ("REPLICATOR_KUMA_COMMAND", "node 'x"),
        ("REPLICATOR_KUMA_COMMAND", " "),
        ("REPLICATOR_KUMA_URL", "localhost:3001"),
        ("REPLICATOR_LOG_FORMAT", "xml"),
        ("REPLICATOR_LOG_LEVEL", "loud"),
        ("REPLICATOR_TABLES", "monitor"),
        ("REPLICATOR_TABLES", "heartbeat"),
        ("REPLICATOR_EXCLUDE_TABLES", "user"),
        ("REPLICATOR_EXCLUDE_TABLES", "no_such_table"),
        ("REPLICATOR_SETTINGS", "+primaryBaseURL,checkBeta"),
        ("REPLICATOR_SETTINGS", "+checkBeta,-checkBeta"),
        ("REPLICATOR_SETTINGS", "+"),
        ("REPLICATOR_SETTINGS", "jwtSecret"),
        ("RESTORE_MERGE_STRATEGY", "MERGE"),
        ("REPLICATOR_OVERRIDES", "overrides.toml"),
        ("REPLICATOR_SCHEMA", "loose"),
        ("REPLICATOR_TELL", "failures,alarms"),
        ("REPLICATOR_TELL", ","),
        ("REPLICATOR_ON_MISFIT", "ignore"),
        ("REPLICATOR_SHRINK_LIMIT", "none"),
    ],
)
def test_wrong_values_are_named_and_shown(name: str, value: str) -> None:
    message = refused({name: value})
    assert message.startswith(f"{name} is {value!r}: expected ")


LOCAL_MODE = {"REPLICATOR_MODE": "RESTORE_LOCAL_ENTITY_REPLICATION"}


def test_some_replicas_have_proxies_and_browsers_of_their_own() -> None:
    settings = Settings.load({**GOOD, **LOCAL_MODE}, {}, ALL)
    assert settings.mode is not None
    assert settings.mode.replica
    assert settings.local == {"proxy", "remote_browser"}
    assert settings.interval == settings.restore_interval
    assert settings.warnings == ()


def test_only_some_tables_may_be_a_replica_s_own() -> None:
    message = refused({**LOCAL_MODE, "REPLICATOR_LOCAL_ENTITIES": "proxy,monitor"})
    assert message.startswith("REPLICATOR_LOCAL_ENTITIES is 'proxy,monitor': expected tables out")


@pytest.mark.parametrize("mode", ["BACKUP", "RESTORE"])
def test_local_entities_in_another_mode_are_a_warning(mode: str) -> None:
    environ = {"REPLICATOR_MODE": mode, "REPLICATOR_LOCAL_ENTITIES": "proxy"}
    settings = Settings.load({**GOOD, **environ})
    assert settings.local == frozenset()
    assert [w for w in settings.warnings if "does nothing here" in w] == list(settings.warnings)
    assert len(settings.warnings) == 1


def test_local_entities_that_are_not_replicated_are_a_warning_where_somebody_named_them() -> None:
    without = {**GOOD, **LOCAL_MODE, "RESTORE_MERGE_STRATEGY": "DEFAULT"}
    settings = Settings.load({**without, "REPLICATOR_LOCAL_ENTITIES": "notification,proxy"})
    assert settings.local == {"proxy"}
    assert settings.warnings == (
        "REPLICATOR_LOCAL_ENTITIES names notification, which is not replicated here",
    )
    settings = Settings.load({**GOOD, **LOCAL_MODE, "REPLICATOR_TABLES": "user,tag,proxy"})
    assert settings.local == {"proxy"}
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("mode", "exclude", "left_out"),
    [
        ("RESTORE", "", {"notification", "monitor_notification"}),
        ("RESTORE", "incident", {"notification", "monitor_notification", "incident"}),
        ("RESTORE_LOCAL_ENTITY_REPLICATION", "", {"notification", "monitor_notification"}),
        ("BACKUP", "", set()),
    ],
)
def test_the_strategy_default_leaves_notifications_to_the_replica(
    mode: str, exclude: str, left_out: set[str]
) -> None:
    environ = {"REPLICATOR_MODE": mode, "REPLICATOR_EXCLUDE_TABLES": exclude}
    settings = Settings.load({**GOOD, **environ, "RESTORE_MERGE_STRATEGY": "DEFAULT"})
    assert settings.exclude == left_out
    assert settings.strategy.heals


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("+primaryBaseURL", SETTINGS | {"primaryBaseURL"}),
        ("-checkBeta, - entryPage", SETTINGS - {"checkBeta", "entryPage"}),
        ("entryPage,nscd", {"entryPage", "nscd"}),
        ("-jwtSecret", SETTINGS),
    ],
)
def test_keys_of_settings_are_added_removed_or_replaced(text: str, keys: set[str]) -> None:
    settings = Settings.load({**GOOD, "REPLICATOR_SETTINGS": text})
    assert settings.setting_keys == keys
    assert settings.warnings == ()


@pytest.mark.parametrize("key", sorted(SETTINGS_NEVER))
@pytest.mark.parametrize("sign", ["+", ""])
def test_keys_that_never_leave_an_instance_are_refused(key: str, sign: str) -> None:
    message = refused({"REPLICATOR_SETTINGS": sign + key})
    assert message.startswith(f"REPLICATOR_SETTINGS is '{sign}{key}': expected ")
    assert f"({key} never may)" in message


def test_an_unknown_key_of_settings_is_a_warning() -> None:
    settings = Settings.load({**GOOD, "REPLICATOR_SETTINGS": "+ofALaterKuma"})
    assert "ofALaterKuma" in settings.setting_keys
    assert settings.warnings == (
        "REPLICATOR_SETTINGS names ofALaterKuma: no setting of Kuma that replicator-kuma knows",
    )


def test_where_kumas_database_is_comes_from_its_own_variables_and_stays_secret() -> None:
    own = {"UPTIME_KUMA_DB_TYPE": "mariadb", "UPTIME_KUMA_DB_PASSWORD": "hunter2"}
    settings = Settings.load({**GOOD, **own})
    assert settings.kuma_environment.items() >= own.items()
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        ("docker", ["REPLICATOR_KUMA_CONTAINER"]),
        ("systemd", ["REPLICATOR_KUMA_UNIT"]),
        ("command", ["REPLICATOR_KUMA_STOP_COMMAND", "REPLICATOR_KUMA_START_COMMAND"]),
    ],
)
def test_a_service_needs_its_own_variables(kind: str, missing: list[str]) -> None:
    message = refused({"REPLICATOR_KUMA": kind})
    assert all(name in message for name in missing)


def test_all_problems_come_at_once_and_secrets_do_not() -> None:
    message = refused(
        {
            "REPLICATOR_MODE": "",
            "REPLICATOR_MOD": "BACKUP",
            "REPLICATOR_FLEET": "a b",
            "NTFY_URL": "hunter2",
            "RESTIC_REPOSITORY": "",
            "RESTIC_PASSWORD": "",
        },
        *ALL,
    )
    names = ("_MODE", "_FLEET", "NTFY_URL", "RESTIC_REPOSITORY", "RESTIC_PASSWORD")
    assert message.startswith("5 settings are wrong:")
    assert all(name in message for name in names)
    assert "REPLICATOR_MOD is not a variable of replicator-kuma; did you mean" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "password", ["RESTIC_PASSWORD_COMMAND", "RESTIC_INSECURE_NO_PASSWORD", "RESTIC_PASSWORD"]
)
def test_restics_own_ways_to_give_a_password(password: str) -> None:
    environ = {"RESTIC_REPOSITORY": "/srv/repository", password: "x"}
    assert Settings.load(environ, {}, (Need.REPOSITORY,)).restic_environment[password] == "x"


def test_secrets_stay_out_of_the_repr() -> None:
    environ = {**GOOD, "NTFY_URL": "https://ntfy.sh/hidden-topic", "AWS_SECRET_ACCESS_KEY": "hush"}
    text = repr(Settings.load(environ))
    assert not any(secret in text for secret in ("correct horse", "hidden-topic", "hush"))


def test_a_secret_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("two words\n")
    environ = {
        **GOOD,
        "AWS_SECRET_ACCESS_KEY_FILE": str(file),
        "NTFY_TOKEN_FILE": str(file),
        "AWS_SHARED_CREDENTIALS_FILE": str(file),
    }
    settings = Settings.load(environ)
    assert settings.ntfy_token == "two words"
    assert settings.restic_environment["AWS_SECRET_ACCESS_KEY"] == "two words"
    assert "AWS_SECRET_ACCESS_KEY_FILE" not in settings.restic_environment
    assert settings.restic_environment["AWS_SHARED_CREDENTIALS_FILE"] == str(file)


def test_restics_own_files_are_passed_on_and_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    environ = {"RESTIC_REPOSITORY": "/r", "RESTIC_PASSWORD_FILE": str(file)}
    settings = Settings.load(environ, {}, (Need.REPOSITORY,))
    assert settings.restic_environment["RESTIC_PASSWORD_FILE"] == str(file)
    assert "RESTIC_PASSWORD" not in settings.restic_environment


@pytest.mark.parametrize("name", ["RESTIC_PASSWORD_FILE", "B2_ACCOUNT_KEY_FILE", "NTFY_URL_FILE"])
def test_a_bad_file_is_a_problem(tmp_path: Path, name: str) -> None:
    environ = {"RESTIC_REPOSITORY": "/r", name: str(tmp_path / "none")}
    with pytest.raises(SettingsError, match=f"{name} is .*No such file"):
        Settings.load(environ)
    (tmp_path / "none").write_text("\n")
    with pytest.raises(SettingsError, match=f"{name} is .*not empty"):
        Settings.load(environ)
    (tmp_path / "none").write_bytes(b"caf\xe9")
    if name == "RESTIC_PASSWORD_FILE":
        Settings.load(environ)  # restic takes any bytes
    else:
        with pytest.raises(SettingsError, match=f"{name} is .*UTF-8"):
            Settings.load(environ)
    if name != "RESTIC_PASSWORD_FILE":
        (tmp_path / "none").write_bytes(b"a\0b")
        with pytest.raises(SettingsError, match=f"{name} is .*NUL"):
            Settings.load(environ)


def test_a_secret_twice_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    message = refused({"RESTIC_PASSWORD_FILE": str(file)})
    assert message == "RESTIC_PASSWORD and RESTIC_PASSWORD_FILE are both set: expected one of them"


def test_options_win_over_the_environment(tmp_path: Path) -> None:
    environ = {"RESTIC_REPOSITORY_FILE": str(tmp_path / "gone"), "REPLICATOR_FLEET": "a"}
    settings = Settings.load(environ, {"RESTIC_REPOSITORY": "/b", "REPLICATOR_FLEET": "b"})
    assert settings.fleet == "b"
    assert settings.restic_environment["RESTIC_REPOSITORY"] == "/b"
    assert "RESTIC_REPOSITORY_FILE" not in settings.restic_environment


def test_restic_and_kuma_get_their_own_parts() -> None:
    environ = {
        **GOOD,
        "PATH": "/bin",
        "HOME": "/root",
        "AWS_REGION": "eu-1",
        "https_proxy": "http://proxy",
        "UPTIME_KUMA_PORT": "3005",
        "NTFY_TOKEN": "t",
        "NODE_OPTIONS": "--x",
        "EMPTY": "",
    }
    settings = Settings.load(environ)
    restic, kuma = settings.restic_environment, settings.kuma_environment
    assert set(restic) == {
        *("RESTIC_REPOSITORY", "RESTIC_PASSWORD", "AWS_REGION", "https_proxy", "PATH", "HOME"),
    }
    assert set(kuma) == {
        *("PATH", "HOME", "https_proxy", "UPTIME_KUMA_PORT", "NODE_OPTIONS", "DATA_DIR"),
    }
    assert kuma["DATA_DIR"] == "/app/data/"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"UPTIME_KUMA_PORT": "3005", "PORT": "1"}, "http://127.0.0.1:3005"),
        ({"PORT": "3006"}, "http://127.0.0.1:3006"),
        ({"UPTIME_KUMA_PORT": "tcp://10.0.0.1:3001"}, "http://127.0.0.1:3001"),
        ({"UPTIME_KUMA_HOST": "::"}, "http://127.0.0.1:3001"),
        ({"UPTIME_KUMA_HOST": "fd00::1"}, "http://[fd00::1]:3001"),
        ({"HOST": "10.1.2.3"}, "http://10.1.2.3:3001"),
        (
            {"UPTIME_KUMA_SSL_KEY": "/k", "UPTIME_KUMA_SSL_CERT": "/c"},
            "https://127.0.0.1:3001",
        ),
        ({"UPTIME_KUMA_SSL_KEY": "/k"}, "http://127.0.0.1:3001"),
    ],
)
def test_kumas_address_from_its_own_variables(environ: dict[str, str], url: str) -> None:
    assert Settings.load(environ).kuma_url == url


def test_unknown_names_are_warnings() -> None:
    environ = {
        **GOOD,
        "REPLICATOR_INTERVALL": "5m",
        "REPLICATOR_BACKUP_INTERVALL": "5m",
        "REPLICATOR_PORT": "tcp://10.0.0.1:3001",
        "REPLICATOR_SERVICE_HOST": "10.0.0.1",
        "REPLICATOR_WEB_PORT_3001_TCP_ADDR": "10.0.0.1",
    }
    first, second = Settings.load(environ).warnings
    assert first == (
        "REPLICATOR_BACKUP_INTERVALL is not a variable of replicator-kuma; "
        "did you mean REPLICATOR_BACKUP_INTERVAL?"
    )
    assert second.startswith("REPLICATOR_INTERVALL is not")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("1h30m", 5400), ("2d", 172800), (" 1H ", 3600), ("1d1s", 86401)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5 m", "-5m", "30m1h", "0s", "367d", "1.5h", "٣m٣"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


def test_the_readmes_table_names_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    import runpy

    with pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("replicator_kuma.config.variables", run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(variables.VARIABLES)
    for name in variables.VARIABLES:
        assert sum(f"| `{name}`" in line for line in lines) == 1


def test_relative_places_are_made_absolute_because_restic_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password").write_text("secret")
    found = Settings.load(
        {
            "REPLICATOR_MODE": "BACKUP",
            "DATA_DIR": str(tmp_path),
            "RESTIC_REPOSITORY": "repository",
            "RESTIC_PASSWORD_FILE": "password",
        }
    ).restic_environment
    assert found["RESTIC_REPOSITORY"] == str(tmp_path / "repository")
    assert found["RESTIC_PASSWORD_FILE"] == str(tmp_path / "password")
    for elsewhere in ("s3:https://s3.example.com/b", "sftp:user@host:rel", "rest:http://h/"):
        environment = {"DATA_DIR": str(tmp_path), "RESTIC_REPOSITORY": elsewhere}
        assert Settings.load(environment).restic_environment["RESTIC_REPOSITORY"] == elsewhere


def test_a_data_directory_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DATA_DIR"):
        Settings.load({"DATA_DIR": str(tmp_path / "typo")}, {}, (Need.DATA,))
    assert not (tmp_path / "typo").exists()


SECOND = {
    "REPLICATOR_REPOSITORY_2": "s3:https://there/b",
    "REPLICATOR_PASSWORD_2": "battery staple",
}


def test_a_second_repository_sees_nothing_of_the_first_and_the_reverse() -> None:
    first = {
        "AWS_ACCESS_KEY_ID": "one",
        "AWS_SESSION_TOKEN": "1",
        "RESTIC_CACERT": "/ca",
        "HOME": "/",
    }
    own = {"REPLICATOR_2_AWS_ACCESS_KEY_ID": "two", "REPLICATOR_2_RESTIC_CACERT": "/ca2"}
    settings = Settings.load({**GOOD, **first, **SECOND, **own}, {}, ALL)
    assert settings.second_environment == {
        "HOME": "/",
        "RESTIC_REPOSITORY": "s3:https://there/b",
        "RESTIC_PASSWORD": "battery staple",
        "AWS_ACCESS_KEY_ID": "two",
        "RESTIC_CACERT": "/ca2",
    }
    assert settings.restic_environment == {
        name: value for name, value in {**GOOD, **first}.items() if name != "REPLICATOR_MODE"
    }
    assert settings.warnings == ()
    for secret in ("battery staple", "two"):
        assert secret not in repr(settings)
        assert secret not in settings.kuma_environment.values()


def test_secrets_of_a_second_repository_may_be_files(tmp_path: Path) -> None:
    environ = dict(GOOD)
    wanted = {**SECOND, "REPLICATOR_2_AWS_SECRET_ACCESS_KEY": "s3cr3t"}
    for name, value in wanted.items():
        (tmp_path / name).write_text(f"{value}\n")
        environ[f"{name}_FILE"] = str(tmp_path / name)
    found = Settings.load(environ, {}, ALL).second_environment
    assert found["RESTIC_REPOSITORY"] == SECOND["REPLICATOR_REPOSITORY_2"]
    assert found["RESTIC_PASSWORD"] == "battery staple"
    assert found["AWS_SECRET_ACCESS_KEY"] == "s3cr3t"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"REPLICATOR_REPOSITORY_2": "/srv/2"}, "REPLICATOR_PASSWORD_2 is unset"),
        ({**SECOND, "REPLICATOR_REPOSITORY_2": "/srv/repository"}, "another repository"),
        ({**SECOND, "REPLICATOR_REPOSITORY_2": "local:/srv/repository"}, "another repository"),
    ],
)
def test_a_second_repository_that_is_none_is_refused(environ: dict[str, str], said: str) -> None:
    assert said in refused(environ)
    assert "battery" not in refused(environ)


def test_a_second_repository_without_a_name_is_said() -> None:
    (warning,) = Settings.load({**GOOD, "REPLICATOR_PASSWORD_2": "x"}).warnings
    assert "REPLICATOR_REPOSITORY_2" in warning
    assert Settings.load(GOOD).second_environment == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fra-1", "expected name=https://"),
        ("=https://fra.example.com", "expected name=https://"),
        ("fra-1=ftp://fra.example.com", "'fra-1': expected an address like https://"),
        ("fra-1=https://", "'fra-1': expected an address like https://"),
        ("fra-1=https://fra.example.com:port", "'fra-1': expected an address like https://"),
        ("fra-1=http://fra.example.com", "'fra-1': expected https:// (or http+insecure://"),
        ("fra-1=http://8.8.8.8", "'fra-1': expected https:// (or http+insecure://"),
        ("fra-1=http://[2a00::1]:8067", "'fra-1': expected https:// (or http+insecure://"),
        ("fra-1=https://me:hunter2@fra.example.com", "an address without a login"),
        ("fra-1=https://fra.example.com?token=hunter2", "an address without a login"),
        ("here=https://fra.example.com", "'here' is this one's own name"),
        ("fra-1=https://a.example.com,fra-1=https://b.example.com", "'fra-1' is there twice"),
    ],
)
def test_peers_that_are_none_are_refused(text: str, said: str) -> None:
    message = refused({**GOOD, "REPLICATOR_INSTANCE": "here", "REPLICATOR_PEERS": text})
    assert said in message
    assert message.startswith("REPLICATOR_PEERS")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1:8067", "http://[::1]:8067", "http://localhost", "http://kuma-2:8067"),
        *("http://192.168.1.7", "http://172.20.0.3", "http://[fd00::7]:8067", "http://[fe80::1]"),
        *("http://100.64.0.9", "https://fra.example.com", "https://example.com/kuma"),
    ],
)
def test_peers_nearby_need_no_tls(address: str) -> None:
    settings = Settings.load({**GOOD, "REPLICATOR_PEERS": f"fra-1={address}"})
    assert settings.peers == (Peer("fra-1", address),)


def test_a_peer_by_an_unsafe_way_has_to_be_called_so() -> None:
    asked = {**GOOD, "REPLICATOR_PEERS": "fra-1=http+insecure://fra.example.com:8067"}
    assert Settings.load(asked).peers == (Peer("fra-1", "http://fra.example.com:8067"),)


@pytest.mark.parametrize(
    ("given", "shown", "loopback"),
    [
        ("127.0.0.1:8067", "127.0.0.1:8067", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("127.8.9.10:1", "127.8.9.10:1", True),
        ("0.0.0.0:8067", "0.0.0.0:8067", False),
        ("[::1]:8067", "[::1]:8067", True),
        ("[::]:8067", "[::]:8067", False),
        ("192.0.2.1:65535", "192.0.2.1:65535", False),
    ],
)
def test_where_the_server_listens(given: str, shown: str, loopback: bool) -> None:
    found = Settings.load({**GOOD, "REPLICATOR_HTTP": given}).http
    assert found is not None
    assert (str(found), found.loopback) == (shown, loopback)


@pytest.mark.parametrize("given", ["", "off", "OFF"])
def test_it_listens_nowhere_unless_asked(given: str) -> None:
    assert Settings.load({**GOOD, "REPLICATOR_HTTP": given}).http is None


@pytest.mark.parametrize(
    "given",
    [
        *("8067", ":8067", "on", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536"),
        *("::1:8067", "[127.0.0.1]:80", "[127.0.0.1:80", "[]:80", "[fe80::1%eth0]:80", "1.2.3:80"),
        *("host.example:80", "http://127.0.0.1:8067", "127.0.0.1:8067/"),
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    assert "REPLICATOR_HTTP is" in refused({"REPLICATOR_HTTP": given})


def test_the_token_is_read_and_never_shown(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    (tmp_path / "token").write_text(f"{token}\n")
    for environ in (
        {"REPLICATOR_HTTP_TOKEN": token},
        {"REPLICATOR_HTTP_TOKEN_FILE": str(tmp_path / "token")},
    ):
        found = Settings.load({**GOOD, **environ})
        assert (found.http_token, found.http_open) == (token, False)
        assert token not in repr(found)
        assert token not in str(found.kuma_environment) + str(found.tool_environment)
        assert token not in str(found.restic_environment)
    found = Settings.load({**GOOD, "REPLICATOR_HTTP_TOKEN": "none"})
    assert (found.http_token, found.http_open) == ("", True)


@pytest.mark.parametrize("token", ["short", "0123456789abcde", "0123456789 abcdef", "é" * 20])
def test_a_token_that_can_be_guessed_or_not_sent_is_refused(token: str) -> None:
    said = refused({"REPLICATOR_HTTP_TOKEN": token})
    assert "REPLICATOR_HTTP_TOKEN is (secret): expected 16 or more" in said
    assert token not in said
