"""Members of a front by their numbers: their files, their weights, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import paretoray as pr
from orchestrator.data import loaders, preprocessing
from orchestrator.data.preprocessing import Preprocessing

HERE = pr.Workers(ray=False, count=1)


@pytest.fixture(scope="module")
def problem() -> pr.Problem:
    return pr.Problem("digits-tiny", pr.data.digits(limit=200), ["error", "parameters"])


@pytest.fixture(scope="module")
def finished(problem: pr.Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two retrained members of several."""
    out = tmp_path_factory.mktemp("networks") / "run"
    retrain = pr.Retraining(members=2, epochs=2, batch=20)
    pr.search(problem, "random-search", budget=pr.Budget(epochs=8, interval=1), workers=HERE, retrain=retrain, out=out)
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def front(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "front.csv").set_index("member")


def trained(run: Path) -> list[int]:
    return [int(member) for member, row in front(run).iterrows() if row["standing"] != "not retrained"]


def test_one_number_names_a_member_everywhere(run: Path) -> None:
    members = trained(run)
    assert len(members) == 2 and sorted(pd.read_csv(run / "retrained.csv")["member"]) == sorted(members)
    assert sorted(p.name for p in (run / "networks").glob("*.pt")) == sorted(f"network-{m}.pt" for m in members)
    for member in members:
        network, row = pr.load(run, member), front(run).loc[member]
        assert (network.member, network.arch) == (member, row["arch"])
        assert network.costs["parameters"] == row["parameters"] == sum(p.numel() for p in network.parameters())
        assert network.costs["test_error_percent"] == row["test_error_percent"]
        plain = pr.Result.open(run).network(member).state_dict()
        assert all(torch.equal(plain[k], v) for k, v in network.network.state_dict().items())


def test_the_images_need_not_be_there_any_more(run: Path, problem: pr.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: Any) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(loaders, "load", gone)
    member = trained(run)[0]
    network = pr.load(run, member)
    assert not network.training and network.classes == problem.data.classes
    test = problem.data.test
    scans = [Image.fromarray(image[0].numpy()) for image in test.images]
    batch = torch.stack([network.preprocess(scan) for scan in scans])
    assert torch.equal(batch, problem.data.normalise(test.images))
    with torch.no_grad():
        wrong = (network(batch).argmax(dim=1) != test.labels).float().mean()
    assert 100 * float(wrong) == pytest.approx(network.costs["test_error_percent"], abs=1e-4)


def test_weights_are_a_plain_state_dict_that_says_whose_it_is(run: Path, problem: pr.Problem) -> None:
    member = trained(run)[0]
    state = torch.load(run / f"networks/network-{member}.pt", weights_only=True)
    arch = front(run).loc[member, "arch"]
    problem.space.network(problem.space.parse(str(arch))).load_state_dict(state)
    said = json.loads(state._metadata[""]["paretoray"])
    assert (said["arch"], said["space"], said["settings"]) == (arch, "digits-tiny", {"channels": 8})
    assert tuple(said["classes"]) == problem.data.classes and tuple(said["preprocessing"]["mean"]) == problem.data.mean


def test_the_file_of_another_member_is_refused_by_name(run: Path) -> None:
    one, other = trained(run)
    networks = run / "networks"
    shutil.copy(networks / f"network-{other}.pt", networks / f"network-{one}.pt")
    with pytest.raises(pr.InputError, match=rf"network-{one}\.pt does not belong to member {one}: it has the weights of"):
        pr.load(run, one)
    assert pr.load(run, other).member == other


def test_the_file_of_a_space_with_other_settings_is_refused(run: Path) -> None:
    text = (run / "experiment.toml").read_text()
    (run / "experiment.toml").write_text(text.replace("channels = 8", "channels = 6"))
    with pytest.raises(pr.InputError, match=r"channels = 8.*the member is .*channels = 6"):
        pr.load(run, trained(run)[0])


@pytest.mark.parametrize("how", ["cut", "bit", "text", "tensor"])
def test_a_damaged_file_is_refused_by_name(run: Path, how: str) -> None:
    member = trained(run)[0]
    path = run / f"networks/network-{member}.pt"
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "bit":  # in the middle of a tensor, where torch itself does not notice
        state = torch.load(path, weights_only=True)
        at = whole.index(max(state.values(), key=torch.numel).numpy().tobytes())
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        torch.load(path, weights_only=True)
    elif how == "text":
        path.write_text("no weights")
    else:
        torch.save(torch.zeros(3), path)
    with pytest.raises(pr.InputError, match=rf"network-{member}\.pt is damaged"):
        pr.load(run, member)


def test_a_member_without_weights_of_its_own_is_refused_with_the_way_out(run: Path) -> None:
    other = next(int(m) for m, row in front(run).iterrows() if row["standing"] == "not retrained")
    with pytest.raises(
        pr.InputError, match=rf"member {other} of .* was not retrained.*paretoray retrain {run} --member {other}$"
    ):
        pr.load(run, other)
    with pytest.raises(pr.InputError, match="no member 0; the members of its front are 1, 2"):
        pr.load(run, 0)
    with pytest.raises(pr.InputError, match="is not a run directory"):
        pr.load(run / "networks", 1)


def test_an_older_run_is_read_by_the_results_beside_its_files(run: Path, problem: pr.Problem) -> None:
    """Files counted from 0 in the order of the trainings, and said nothing of themselves; front.csv had no numbers."""
    members = trained(run)
    networks = run / "networks"
    for index, member in enumerate(reversed(members)):
        state = torch.load(networks / f"network-{member}.pt", weights_only=True)
        torch.save({k: v.clone() for k, v in state.items()}, networks / f"{index}.pt")
        (networks / f"network-{member}.pt").unlink()
        (networks / f"network-{member}.json").rename(networks / f"{index}.json")
    expected = {int(m): str(row["arch"]) for m, row in front(run).iterrows()}
    later = ["member", "standing", "beaten_by"]
    pd.read_csv(run / "front.csv").sort_values("member").drop(columns=later).to_csv(run / "front.csv", index=False)
    for member in members:
        network = pr.load(run, member)
        assert network.arch == expected[member] and network.classes == problem.data.classes
    pr.Result.open(run).report()


def pixels(image: Any, shape: Any, fit: str = "squash", background: Any = None, scales: Any = None) -> Any:
    return preprocessing.pixels(image, shape, fit, background, scales or {})


def test_an_image_is_taken_in_every_usual_form(problem: pr.Problem) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    preprocess = Preprocessing.of(problem.data)
    wanted = problem.data.normalise(torch.from_numpy(grey)[None])
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    coloured = Image.fromarray(grey).convert("RGB")
    for image in (grey, grey[None], grey[..., None], torch.from_numpy(grey), Image.open(file), coloured, np.asarray(coloured)):
        assert torch.equal(preprocess(image), wanted)
    assert pixels(np.zeros((20, 30, 3), np.uint8), (3, 8, 8)).shape == (3, 8, 8)
    assert pixels(np.zeros((3, 20, 30), np.uint8), (3, 8, 8)).shape == (3, 8, 8)
    assert np.array_equal(pixels(np.ones((4, 2, 2), np.uint8), (4, 2, 2)), np.ones((4, 2, 2), np.uint8))
    turned = Image.fromarray(grey)
    exif = turned.getexif()
    exif[0x0112] = 3
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    assert np.array_equal(pixels(Image.open(file), (1, 8, 8))[0], grey[::-1, ::-1])
    wide = Image.fromarray(np.repeat(grey, 2, axis=1)).convert("RGBA")
    wide.putalpha(Image.fromarray(np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[None].repeat(8, 0)))
    red = pixels(wide, (3, 8, 8), "letterbox", (255, 0, 0))
    assert (red[:, 0] == np.array([255, 0, 0])[:, None]).all() and (red[:, 4, 7] == [255, 0, 0]).all()
    assert red[0, 4, 0] == red[1, 4, 0] < 60
    assert np.array_equal(pixels(Image.fromarray(np.repeat(grey, 2, axis=1)), (1, 8, 8), "crop")[0, :, 0], grey[:, 2])
    deep = Image.fromarray(grey.astype(np.uint16) * 1000)
    assert np.array_equal(pixels(deep, (1, 8, 8), scales={"integers": (0, 63_000)})[0], np.rint(grey * (255 / 63)))
    assert np.array_equal(*pixels(Image.fromarray(grey / np.float32(63)), (3, 8, 8), scales={"fractions": (0, 1)})[:2])
    for bad, said in (
        (grey / 255, "uint8"),
        (Image.fromarray(grey.astype(np.int32)), "8 bits"),
        (deep, "mode I;16; give 8 bits"),
    ):
        with pytest.raises(ValueError, match=said):
            preprocess(bad)


@pytest.mark.parametrize("fit", ["squash", "crop", "letterbox"])
@pytest.mark.parametrize("top", [3900, 65535])
def test_deep_images_are_prepared_as_the_folder_was_read(tmp_path: Path, fit: str, top: int) -> None:
    rng = np.random.default_rng(0)
    written: dict[int, list[Path]] = {0: [], 1: []}
    for label in written:
        (tmp_path / str(label)).mkdir()
        for number in range(12):
            grey = rng.integers(top // 4, top, (10, 14)).astype(np.uint16)
            grey[0, 0] = top
            path = tmp_path / str(label) / f"{number:02}.png"
            Image.fromarray(grey).save(path)
            written[label].append(path)
    data = pr.data.folder(path=str(tmp_path), size=8, channels=1, fit=fit)
    dataset = pr.Problem("digits-tiny", data, ["error", "parameters"]).data
    preprocess = Preprocessing.of(dataset)
    parts = [p.images for p in (dataset.train, dataset.valid, dataset.test)]
    known = {tuple(image.flatten().tolist()) for part in parts for image in part}
    for paths in written.values():
        for path in paths:
            with Image.open(path) as image:
                mine = np.rint(
                    (preprocess(image).numpy() * np.array(dataset.std)[:, None, None] + np.array(dataset.mean)[:, None, None])
                    * 255
                )
            assert tuple(mine.astype(int).flatten().tolist()) in known


def test_a_network_of_somebody_elses_code_is_loaded_once_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_network.py").write_text(
        "from torch import nn\nfrom paretoray import Choice\n"
        "def build(image, classes):\n"
        "    block = Choice('block', {'a': lambda: nn.Linear(8, 8), 'b': nn.Identity})\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), block, nn.Linear(8, classes))\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = pr.search(
        pr.Problem("their_network:build", pr.data.digits(limit=200), ["error", "parameters"]),
        "random-search",
        budget=pr.Budget(epochs=4, interval=2),
        workers=pr.Workers(ray=False, count=1),
        retrain=pr.Retraining(members=1, epochs=1),
        out=tmp_path / "run",
    )
    member = int(found.front["member"].iloc[0])
    assert pr.load(tmp_path / "run", member).arch.startswith("block=")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another home"))
    refused = r"would import space.name = their_network:build.*--trust"
    with pytest.raises(pr.InputError, match=refused):
        pr.load(tmp_path / "run", member)
    with pytest.raises(pr.InputError, match=refused):
        pr.export(tmp_path / "run", member, tmp_path / "out", ["network"])
    assert not (tmp_path / "out").exists()
    assert pr.load(tmp_path / "run", member, trust=True).arch.startswith("block=")
    assert pr.load(tmp_path / "run", member).arch.startswith("block=")  # from now on
