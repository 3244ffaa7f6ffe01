"""Device files: round trip, replacement and refusal of bad content."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from hw_profiles.profile import FORMAT, Profile, Validation, devices, part, read, write

pytestmark = pytest.mark.numeric

GOOD = Validation.of(np.array([1.0, 2.0, 3.0]), np.array([1.01, 2.02, 2.97]))
PROFILE = Profile(
    cost="latency",
    space="nas-bench-201",
    settings={"channels": 16, "cells": 5},
    image=(3, 32, 32),
    by="operation",
    hardware="a machine",
    protocol={"batch": 1, "date": "2026-11-24"},
    fixed=1.5,
    costs={"nor_conv_3x3 16x32x32 -> 16x32x32": 0.25},
    validation=GOOD,
    alone={"nor_conv_3x3 16x32x32 -> 16x32x32": 0.2},
)


def test_profiles_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "me.toml"
    dead = replace(PROFILE, cost="energy", leaves_out="unused", dead=0.1)
    for profile in (PROFILE, dead, replace(PROFILE, space="darts", fixed=9.0)):
        write(path, profile)
    assert read(path) == [PROFILE, dead, replace(PROFILE, space="darts", fixed=9.0)]
    write(path, replace(PROFILE, fixed=2.0))  # measured again: replaces the old one
    assert {(p.cost, p.space): p.fixed for p in read(path)} == {
        ("latency", "nas-bench-201"): 2.0, ("energy", "nas-bench-201"): 1.5, ("latency", "darts"): 9.0
    }  # fmt: skip
    assert devices(tmp_path / "new") == {"me": path}


def damaged(path: Path, change: dict[str, Any], **top: Any) -> None:
    write(path, PROFILE)
    import tomllib

    content = tomllib.loads(path.read_text())
    content["profile"][0] |= change
    path.write_text(tomli_w.dumps(content | top))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"costs": {"x": -0.1}}, ["profile 1, costs.x = -0.1", "must be at least 0"]),
        ({"costs": {"x": float("nan")}}, ["costs.x = nan", "finite"]),
        ({"fixed": float("inf")}, ["fixed = inf", "finite"]),
        ({"fixed": "much"}, ["fixed = 'much'", "number"]),
        ({"alone": {"x": 0.0}}, ["alone.x = 0.0", "must be above 0"]),
        ({"by": "layer"}, ["by = 'layer'", "'operation' or 'option'"]),
        ({"cost": "beauty"}, ["cost = 'beauty'"]),
        ({"spead": 1}, ["spead"]),
        ({"validation": {"networks": 3}}, ["validation"]),
    ],
)
def test_invalid_values_are_refused(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    path = tmp_path / "me.toml"
    damaged(path, change)
    with pytest.raises(ValueError) as error:
        read(path)
    assert str(path) in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "me.toml"
    damaged(path, {}, format=FORMAT + 1)
    with pytest.raises(ValueError, match="update paretoray"):
        read(path)
    path.write_text("seed = 1\n")
    with pytest.raises(ValueError, match="no device file"):
        read(path)
    path.write_text("format = 1\n[[profile")
    with pytest.raises(ValueError, match="damaged"):
        read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="damaged"):
        read(path)
    with pytest.raises(ValueError, match="cannot read"):
        read(tmp_path / "none.toml")


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "me.toml"
    path.write_text("format = 1\n[[profile")
    with pytest.raises(ValueError, match="damaged"):
        write(path, PROFILE)
    assert path.read_text() == "format = 1\n[[profile"


def test_poor_ranking_or_poor_accuracy_makes_a_profile_poor() -> None:
    measured = np.linspace(1, 2, 20)
    assert not Validation.of(measured, measured * 1.05).poor
    assert Validation.of(measured, measured * 1.2).poor  # ranks well, 20 % off
    narrow = np.linspace(1.0, 1.05, 20)
    swapped = Validation.of(narrow, narrow.reshape(10, 2)[:, ::-1].ravel())
    assert swapped.spearman > 0.98 and not swapped.poor
    shuffled = Validation.of(narrow, narrow.reshape(4, 5)[:, ::-1].ravel())
    assert shuffled.mape < 3 and shuffled.spearman < 0.95 and shuffled.poor  # small errors, wrong order


def test_a_profile_matches_its_space_settings_and_image_only() -> None:
    assert PROFILE.matches("nas-bench-201", {"channels": 16, "cells": 5}, (3, 32, 32))
    assert not PROFILE.matches("nas-bench-201", {"channels": 16, "cells": 5}, (3, 64, 64))
    assert not PROFILE.matches("nas-bench-201", {"channels": 8, "cells": 5}, (3, 32, 32))
    assert not PROFILE.matches("darts", {"channels": 16, "cells": 5}, (3, 32, 32))
    assert part("nor_conv_1x1", (4, 8, 8), (8, 4, 4)) == "nor_conv_1x1 4x8x8 -> 8x4x4"
