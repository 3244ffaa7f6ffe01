import errno
import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.errors import RunError
from orchestrator.search.checkpoint import FORMAT, SEAL, Checkpoints


def test_it_comes_back_as_it_went_and_the_one_before_is_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.load() is None
    checkpoints.save({"n": 1, "x": torch.arange(3), "nested": [{"a": (1, 2.5, None)}]})
    checkpoints.save({"n": 2})
    assert checkpoints.load() == {"format": FORMAT, "n": 2}
    checkpoints.latest.unlink()  # as a kill between the two renames leaves it
    state = checkpoints.load()
    assert state is not None and state["n"] == 1 and state["x"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", [b"", b"garbage", "half", "flip"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"n": 1})
    checkpoints.save({"n": 2, "x": torch.arange(1000)})
    whole = checkpoints.latest.read_bytes()
    broken = {"half": whole[: len(whole) // 2], "flip": whole[:100] + b"\0" * 300 + whole[400:]}
    checkpoints.latest.write_bytes(damage if isinstance(damage, bytes) else broken[damage])
    assert checkpoints.load() == {"format": FORMAT, "n": 1}
    assert re.search(r"latest\.pt is damaged .*\n.*goes on from the checkpoint before", caplog.text)
    assert not checkpoints.previous.exists()
    checkpoints.latest.write_bytes(b"garbage")
    with pytest.raises(RunError, match=r"latest\.pt is damaged .*, and there is none before it"):
        checkpoints.load()


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"n": 1})
    before = checkpoints.latest.read_bytes()
    checkpoints.save({"n": 2, "x": torch.arange(100.0), "names": ["a", "b"]})
    whole = checkpoints.latest.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole) * 8, size=400):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << (place % 8)
        checkpoints.latest.write_bytes(changed)
        checkpoints.previous.write_bytes(before)
        assert checkpoints.load() == {"format": FORMAT, "n": 1}, place


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    file = io.BytesIO()
    torch.save({"format": FORMAT, "x": Bomb()}, file)
    whole = file.getvalue()
    (tmp_path / "latest.pt").write_bytes(whole + SEAL + hashlib.sha256(whole).digest())
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
    assert checkpoints.load() == {"format": FORMAT, "n": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest.pt"]
