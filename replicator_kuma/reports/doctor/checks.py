"""A list of small named checks, each OK, WARN or FAIL with what to try; the first failure counts.

`replicator doctor` runs all of them; the supervisor runs the cheap ones at its start.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from replicator_kuma.base.errors import (
    DatabaseError,
    DatabaseMissing,
    ReplicatorError,
    SettingsError,
    StateError,
    TwoLeaders,
)
from replicator_kuma.base.folders import Folder
from replicator_kuma.base.os_errors import refusal
from replicator_kuma.base.state_directory import unusable
from replicator_kuma.base.text import counted, size
from replicator_kuma.base.times import shown
from replicator_kuma.config.settings import Mode, Settings
from replicator_kuma.replication.hints import advise
from replicator_kuma.reports.doctor import memory
from replicator_kuma.reports.doctor.findings import Finding, Found, Level, beyond_doctor

if TYPE_CHECKING:
    from replicator_kuma.adapters.database import Reader, Store
    from replicator_kuma.adapters.repository import Snapshot
    from replicator_kuma.dump.transform.overrides import Overrides

log = logging.getLogger(__name__)

LEAST_SPACE = 64 << 20
STATE_SIZE = 64 << 10
"""more than the state file ever takes"""
CLOCK_SKEW = 300.0
SHOWN_MISFITS = 20


def _from_error(check: str, error: ReplicatorError) -> Finding:
    return Finding(check, Level.FAIL, str(error), beyond_doctor(error.hint), error.exit_code)


@dataclass
class Doctor:
    """Checks of one instance; a check that raises a ReplicatorError has failed."""

    settings: Settings
    interrupted: Callable[[], bool]
    _snapshots: list[Snapshot] | None = field(default=None, init=False)
    _readable: bool = field(default=False, init=False)

    def cheap(self) -> Iterator[Finding]:
        """Those that neither wait for the network nor read the tables."""
        yield from self._run("settings", self._settings)
        yield from self._run("data directory", self._data_dir)
        yield from self._run("state directory", self._state_dir)
        yield from self._run("restic", self._restic)
        yield from self._run("notifications", self._notifications)

    def all(self) -> Iterator[Finding]:
        yield from self.cheap()
        yield from self._run("repository", self._repository)
        yield from self._run("newest snapshot", self._newest)
        yield from self._run("clock", self._clock)
        yield from self._run("database", self._database)
        yield from self._run("writing", self._writing)
        yield from self._look("schema", self._look_schema)
        yield from self._look("unknown tables", self._look_unknown_tables)
        yield from self._look("unknown settings", self._look_unknown_settings)
        yield from self._look("references", self._look_references)
        yield from self._look("rows", self._look_rows)
        yield from self._look("files", self._look_files)
        yield from self._run("folders of files", self._folders)
        yield from self._look("MariaDB replicas", self._look_misfits)
        yield from self._run("overrides", self._overrides)
        yield from self._run("Uptime Kuma", self._kuma)
        for name, remembered in memory.checks(self.settings):
            yield from self._run(name, remembered)

    def _run(self, name: str, check: Callable[[], Found]) -> Iterator[Finding]:
        try:
            for level, message, hint in check():
                code = 1 if level is Level.FAIL else 0
                yield Finding(name, level, message, beyond_doctor(hint), code)
        except ReplicatorError as error:
            self._advise(error)
            yield _from_error(name, error)
        except OSError as error:
            if (refused := refusal(error)) is None:
                raise
            yield _from_error(name, refused)

    @property
    def _leads(self) -> bool | None:
        mode = self.settings.mode
        return None if mode is None else not mode.replica

    def _advise(self, error: ReplicatorError) -> None:
        from replicator_kuma.replication.state.file import StateFile

        with suppress(ReplicatorError):
            advise(error, self._leads, StateFile(self.settings.state_dir).load())

    def _look(self, name: str, look: Callable[[Reader], Found]) -> Iterator[Finding]:
        return self._run(name, partial(self._reading, look))

    # --- around the instance ----------------------------------------------------------------

    def _settings(self) -> Found:
        settings = self.settings
        role = settings.mode.value if settings.mode else ""
        if not role:
            raise SettingsError("REPLICATOR_MODE is unset: expected BACKUP or RESTORE")
        yield Level.OK, f"{role}, fleet {settings.fleet}, instance {settings.instance}", ""
        for warning in settings.warnings:
            yield Level.WARN, warning, ""

    def _state_dir(self) -> Found:
        from replicator_kuma.replication.state.file import StateFile

        state = StateFile(self.settings.state_dir)
        if not state.name.parent.is_dir():
            raise StateError(f"cannot use {state.name}: there is no folder above it")
        state.prepare()
        probe = f"doctor.{os.getpid()}"
        try:
            # A full disk still takes an empty file.
            with Folder.open(state.folder) as folder:
                folder.write(probe, lambda file: file.write(bytes(STATE_SIZE)))
                folder.remove(probe)
        except OSError as error:
            raise unusable(f"cannot write in {state.name}", error) from error
        state.load()
        free = shutil.disk_usage(state.folder).free
        if free < LEAST_SPACE:
            yield Level.WARN, f"{size(free)} left in {state.name}", "Make room on the disk."
        data = self.settings.data_dir
        if data.is_dir() and data.stat().st_dev != state.folder.stat().st_dev:
            yield (
                Level.WARN,
                f"{state.name} is on another file system than {data}: files are copied there",
                "Leave REPLICATOR_STATE_DIR in the data directory.",
            )
        yield Level.OK, f"{state.name} is writable", ""
        if os.geteuid() == 0 and data.is_dir() and data.stat().st_uid != 0:
            yield (
                Level.OK,
                f"this is root, and {data} belongs to user {data.stat().st_uid}: no link that this "
                "user may have made is followed there",
                "",
            )

    def _data_dir(self) -> Found:
        data = self.settings.data_dir
        if not data.is_dir():
            raise DatabaseMissing(f"{data} is not a folder")
        try:
            Folder.open(data).close()
        except OSError as error:
            raise DatabaseError(
                f"{data} cannot be used: {error.strerror}",
                hint="Set DATA_DIR to the folder itself, or run the replicator as Kuma's own user.",
            ) from error
        yield Level.OK, str(data), ""

    def _restic(self) -> Found:
        from replicator_kuma.config.build import build_repository

        version = build_repository(self.settings, interrupted=self.interrupted).version()
        yield Level.OK, f"restic {version}", ""

    def _notifications(self) -> Found:
        if self.settings.ntfy_url:
            yield Level.OK, "ntfy is set", ""
        else:
            yield Level.WARN, "nobody is told of failures", "Set NTFY_URL."

    # --- the repository ---------------------------------------------------------------------

    def _repository(self) -> Found:
        from replicator_kuma.config.build import build_repository

        repository = build_repository(self.settings, interrupted=self.interrupted)
        repository.check_access()
        self._snapshots = list(repository.snapshots(self.settings.fleet))
        for warning in repository.warnings:
            yield Level.WARN, warning, ""
        found = counted(len(self._snapshots), "snapshot")
        yield Level.OK, f"{found} of fleet {self.settings.fleet}", ""

    def _newest(self) -> Found:
        if self._snapshots is None:
            return
        with suppress(StateError):  # `state directory` has said so
            self._judge(self._snapshots)
        if not self._snapshots:
            first = "Publish the first: replicator backup" if self._leads else "Run its leader."
            yield Level.WARN, "this fleet has no snapshot yet", first
            return
        newest = self._snapshots[-1]
        epoch = [s.label for s in self._snapshots if s.position.epoch == newest.position.epoch]
        names = ", ".join(sorted({label.leader for label in epoch}))
        if len({label.writer for label in epoch}) > 1:
            yield (
                Level.WARN,
                f"epoch {newest.position.epoch} has snapshots of two writers: {names}",
                TwoLeaders.hint,
            )
        elif "," in names:
            yield Level.OK, f"the leader has had several names in this epoch: {names}", ""
        yield Level.OK, f"{newest.position} of {newest.label.leader}, {shown(newest.time)}", ""

    def _judge(self, snapshots: list[Snapshot]) -> None:
        """Raise what the next cycle would say to these snapshots: it is asked itself."""
        from replicator_kuma.replication.leader.decide import View, own_newest
        from replicator_kuma.replication.replica.decide import newest_to_follow, refuse_bad
        from replicator_kuma.replication.snapshot_ids import as_listed
        from replicator_kuma.replication.state.file import StateFile

        settings = self.settings
        state = as_listed(StateFile(settings.state_dir).load(), snapshots)
        if settings.mode is Mode.BACKUP:
            own_newest(View(settings.instance, state, snapshots, None, None, 0, 0))
            return
        newest = newest_to_follow(state, settings.fleet, snapshots)
        if newest is not None:
            refuse_bad(state, newest)

    def _clock(self) -> Found:
        """Nothing depends on clocks; people who read times do."""
        if not self._snapshots:
            return
        with suppress(ValueError):
            newest = max(datetime.fromisoformat(s.time).timestamp() for s in self._snapshots)
            ahead = newest - time.time()
            if ahead > CLOCK_SKEW:
                yield (
                    Level.WARN,
                    f"the newest snapshot is {ahead:.0f} s in the future",
                    "Set the clock here, or the leader's.",
                )
                return
            yield Level.OK, "no snapshot comes from the future", ""

    # --- the database -----------------------------------------------------------------------

    def _store(self) -> Store:
        from replicator_kuma.config.build import build_store

        return build_store(self.settings)

    def _database(self) -> Found:
        store = self._store()
        if not store.exists():
            raise DatabaseMissing(f"there is no database in {self.settings.data_dir}")
        leads = self.settings.mode is Mode.BACKUP
        odd = store.check(self._chosen() if leads else None)
        self._readable = True
        for line in odd:
            yield Level.WARN, line, "What is replicated is whole."
        if self.settings.mode and self.settings.mode.replica:
            store.check_writable()
        yield Level.OK, f"{store.engine}, readable and whole", ""

    def _writing(self) -> Found:
        """What would stop an apply, as far as it can be seen without one."""
        from replicator_kuma.reports.doctor import writing

        if self._readable and self.settings.mode and self.settings.mode.replica:
            yield from writing.check(self._store(), self._chosen())

    def _reading(self, look: Callable[[Reader], Found]) -> Found:
        """A check of the tables; silent where `database` has said that they cannot be read."""
        if self._readable:
            with self._store().read() as reader:
                yield from look(reader)

    def _chosen(self) -> frozenset[str]:
        from replicator_kuma.dump.catalog import choose

        return choose(self.settings.include, self.settings.exclude)

    def _look_schema(self, reader: Reader) -> Found:
        from replicator_kuma.dump.transform.version_names import named

        schema = reader.schema
        schema.require(self._chosen())
        version = named(schema.fingerprint)
        if version:
            yield Level.OK, f"Uptime Kuma {version} ({schema.fingerprint})", ""
        else:
            yield (
                Level.WARN,
                f"a schema that this version has not met ({schema.fingerprint})",
                "It is replicated to instances with the same tables; look for a newer replicator.",
            )

    def _look_unknown_tables(self, reader: Reader) -> Found:
        unknown = reader.schema.unknown()
        if unknown:
            yield (
                Level.WARN,
                f"not replicated, because nobody knows what they are: {', '.join(unknown)}",
                "Look for a newer version of replicator-kuma.",
            )
        else:
            yield Level.OK, "none", ""

    def _look_unknown_settings(self, reader: Reader) -> Found:
        from replicator_kuma.dump.catalog import SETTINGS, SETTINGS_NEVER, SETTINGS_OPTIONAL
        from replicator_kuma.dump.select import Select

        if "setting" not in reader.schema.tables:
            return
        keys = Select("setting", ("key",), (), ("key",), ())
        known = self.settings.setting_keys | SETTINGS | SETTINGS_OPTIONAL | SETTINGS_NEVER
        unknown = [str(key) for (key,) in reader.rows(keys) if key not in known]
        if unknown:
            names = ", ".join(unknown[:20])
            yield Level.WARN, f"stay local, because nobody knows what they are: {names}", ""
        else:
            yield Level.OK, "none", ""

    def _look_references(self, reader: Reader) -> Found:
        from replicator_kuma.dump.select import select

        names, dangling = reader.schema.require(self._chosen()), None
        for dangling in (d for n in names for d in reader.dangling(select(reader.schema, n))):
            yield Level.WARN, str(dangling), "Old versions of Kuma left such rows behind."
        if dangling is None:
            yield Level.OK, "none points nowhere", ""

    def _look_rows(self, reader: Reader) -> Found:
        """Of a leader: what a publish would name, for no replica would take it."""
        from replicator_kuma.replication.observe import write_audited

        if self.settings.mode is Mode.BACKUP:
            write_audited(None, reader, reader.schema.require(self._chosen()))
            yield Level.OK, "each replica would take them", ""

    def _look_files(self, reader: Reader) -> Found:
        from replicator_kuma.reports.doctor import files

        return files.named(reader, self.settings.data_dir, self._chosen())

    def _folders(self) -> Found:
        from replicator_kuma.reports.doctor import files

        if self._readable and self.settings.mode and self.settings.mode.replica:
            yield from files.folders(self.settings.data_dir)

    def _look_misfits(self, reader: Reader) -> Found:
        """Of a leader on SQLite: the rows that a replica on MariaDB could not hold."""
        from replicator_kuma.adapters.database.mariadb.forecast import misfits

        if self.settings.mode is not Mode.BACKUP or self._store().engine != "sqlite":
            return
        count = 0
        for count, line in enumerate(misfits(reader, reader.schema.require(self._chosen())), 1):
            if count <= SHOWN_MISFITS:
                yield Level.WARN, line, ""
        if count:
            hint = "Change them in Kuma, or set REPLICATOR_ON_MISFIT=truncate on such a replica."
            yield Level.WARN, f"what a replica on MariaDB cannot hold: {count} in all", hint
        else:
            yield Level.OK, "each row fits", ""

    def _overrides(self) -> Found:
        from replicator_kuma.config.build import read_policy

        file = self.settings.overrides
        if file is None:
            yield Level.OK, "none", ""
        elif self.settings.mode is Mode.BACKUP:
            yield Level.WARN, f"a leader goes by no rules: {file} does nothing here", ""
        else:
            rules = read_policy(self.settings)().overrides
            yield from self._reading(lambda reader: self._look_overrides(rules, reader))
            count = len(rules.rules)
            yield Level.OK, f"{count} {'rule' if count == 1 else 'rules'} of {file}", ""

    def _look_overrides(self, rules: Overrides, reader: Reader) -> Found:
        rules.check(reader.schema)
        chosen = self._chosen()
        for number, rule in enumerate(rules.rules, 1):
            if rule.table not in chosen:
                yield Level.WARN, f"rule {number}: {rule.table} is not replicated here", ""
        if reader.count("user"):  # else nothing has come yet
            for number in rules.silent(reader, chosen - self.settings.local):
                yield (
                    Level.WARN,
                    f"rule {number} matches no {rules.rules[number - 1].table} here",
                    "Look for a typo in its where, unless the leader has no such row yet.",
                )

    # --- Kuma -------------------------------------------------------------------------------

    def _kuma(self) -> Found:
        from replicator_kuma.adapters.kuma.readiness import Readiness, probe

        state = probe(self.settings.kuma_url)
        address = self.settings.kuma_url.rpartition("@")[2]
        if state is Readiness.READY:
            yield Level.OK, f"ready at {address}", ""
        else:
            found = self._store().holders() if self._store().engine == "sqlite" else ()
            runs = next((h for h in found if h.maybe_kuma), None)
            starting = "nobody answers: it is starting, or does not run"
            if runs is not None:
                starting = f"nobody answers, and {runs} has the database open: it is starting, or "
                starting += "answers elsewhere, and is then never stopped for an apply"
            yield (
                Level.WARN,
                f"at {address}: {starting if state is Readiness.STARTING else state.value}",
                "If it runs elsewhere, set REPLICATOR_KUMA_URL.",
            )


def log_problems(settings: Settings, interrupted: Callable[[], bool]) -> None:
    """Log what the cheap checks find wrong: for `run`, once Kuma is up."""
    for finding in Doctor(settings, interrupted).cheap():
        if finding.level is not Level.OK:
            level = logging.WARNING if finding.level is Level.WARN else logging.ERROR
            log.log(level, "%s: %s. %s", finding.check, finding.message, finding.hint)
