import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.errors import RunError
from orchestrator.search.checkpoint import Checkpoints


def test_it_comes_back_as_it_went_and_the_one_before_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.load() is None
    checkpoints.save({"n": 1, "x": torch.arange(3), "nested": [{"a": (1, 2.5, None)}]})
    checkpoints.save({"n": 2})
    assert checkpoints.load() == {"format": 1, "n": 2}
    checkpoints.latest.unlink()  # as a kill between the two renames leaves it
    state = checkpoints.load()
    assert state is not None and state["n"] == 1 and state["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", [b"", b"garbage", "half", "flip"])
def test_damage_is_an_error_that_names_the_file_and_the_way_on(tmp_path: Path, damage: bytes | str) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"n": 1})
    checkpoints.save({"n": 2, "x": torch.arange(1000)})
    whole = checkpoints.latest.read_bytes()
    broken = {"half": whole[: len(whole) // 2], "flip": whole[:100] + b"\0" * 300 + whole[400:]}
    checkpoints.latest.write_bytes(damage if isinstance(damage, bytes) else broken[damage])
    with pytest.raises(RunError, match=r"latest\.pt is damaged .* delete it and resume"):
        checkpoints.load()
    checkpoints.latest.unlink()
    state = checkpoints.load()
    assert state is not None and state["n"] == 1


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"format": 1, "x": Bomb()}, tmp_path / "latest.pt")
    with pytest.raises(RunError, match="damaged"):
        Checkpoints(tmp_path).load()
    assert not (tmp_path / "exploded").exists()


def test_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / "latest.pt")
    with pytest.raises(RunError, match="has format 99"):
        Checkpoints(tmp_path).load()


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"n": 1})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device; make room, then resume"):
        checkpoints.save({"n": 2})
    assert checkpoints.load() == {"format": 1, "n": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest.pt"]
