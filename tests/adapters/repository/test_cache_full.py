"""A disk that is full where restic's cache is: the machine's failure, never the repository's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from replicator_kuma.adapters.repository import Snapshot
from replicator_kuma.adapters.repository.restic.failures import Where, classify, partial_listing
from replicator_kuma.adapters.repository.restic.process import Ended
from replicator_kuma.base.errors import CacheFull, RepositoryUnreachable
from replicator_kuma.base.secret_variables import Mask
from tests.adapters.repository import places
from tests.adapters.repository.places import label

pytestmark = pytest.mark.restic


def test_a_full_cache_is_called_so_and_goes_on_once_there_is_room(
    restic: Path, place: Path, tmp_path: Path
) -> None:
    with places.tmpfs(tmp_path / "small", "2m") as small:
        repository = places.connect(restic, place, small)
        repository.check_access()  # a cache that cannot be made at all restic goes without
        ballast = small / "ballast"
        ballast.write_bytes(b"x" * shutil.disk_usage(small).free)
        (path,) = (place / "snapshots").iterdir()
        snapshot = Snapshot(path.name, label(1), "")
        for call in (
            lambda: repository.snapshots("default"),
            lambda: repository.fetch(snapshot, tmp_path / "into", lambda _name: True),
        ):
            with pytest.raises(CacheFull, match="no space left on device") as caught:
                call()
            assert caught.value.exit_code == 28
            assert "REPLICATOR_STATE_DIR" in caught.value.hint
        assert places.read_tree(tmp_path / "into") == {}
        ballast.unlink()
        repository.fetch(snapshot, tmp_path / "into", lambda _name: True)
        assert places.read_tree(tmp_path / "into")


def test_a_full_disk_elsewhere_is_not_the_cache_s() -> None:
    where, mask = Where(cache=Path("/s/cache")), Mask({})
    full = "Fatal: Copy: write {}/index/tmp-1: no space left on device"
    for folder, kind in (("/s/cache/3d", CacheFull), ("/r", RepositoryUnreachable)):
        ended = Ended(1, full.format(folder))
        found = classify("list snapshots", ended, 60, mask, where)
        assert type(found.error) is kind
        assert not found.transient
    left_out = f'Ignoring "1a": failed to load snapshot 1a: {full.format("/s/cache/3d")}'
    partial = partial_listing(left_out, mask, where)
    assert partial is not None
    assert isinstance(partial.error, CacheFull)
