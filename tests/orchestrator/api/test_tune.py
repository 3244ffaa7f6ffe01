"""Methods of ours as a search algorithm of Ray Tune, on the table that is shipped."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune
from ray.tune.search import Searcher as TuneSearcher

import paretoray as pr
from analysis.pareto import non_dominated
from orchestrator.api.trial_config import space_of
from orchestrator.evaluators.tabular import TabularBenchmark
from searchers.random_search import RandomSearch

METHODS = {
    "nsga2": {"population": 6, "samples": 6},
    "pymoo-algorithm": {"population": 6, "samples": 6},
    "surrogate-search": {"start": 4, "samples": 3},
    "local-search": {"start": 4, "samples": 3},
    "aging-evolution": {"population": 6, "tournament": 2, "samples": 3},
    "random-search": {"samples": 4},
    "optuna-sampler": {"samples": 3},
}
OBJECTIVES = ["error", "latency_ms"]
POINTS = ["skip-skip-skip-skip", "conv3-skip-sep3-res3", "conv3-conv3-conv3-conv3"]
Metrics = dict[str, float]


@pytest.fixture(scope="module")
def metrics() -> dict[str, Metrics]:
    """Costs of every network of the shipped table, by notation."""
    space = space_of("digits-tiny")
    table = TabularBenchmark.read(Path("digits-tiny"), space, ["valid_accuracy", "latency_ms", "parameters"])
    names = ["error", "latency_ms", "parameters"]
    return {space.format(a): dict(zip(names, costs, strict=True)) for a, costs in table.costs.items()}


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Any:
    if request.param == "optuna-sampler":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    return pr.searchers(request.param, **METHODS[request.param])


def made(method: Any = "random-search", **settings: Any) -> Any:
    return pr.tune.ParetoSearch(method, "digits-tiny", OBJECTIVES, **settings)


def play(
    algorithm: Any, report: Callable[[str], Metrics | None], trials: int, *, width: int = 4, order: int = 0, first: int = 0
) -> list[str]:
    """Do as Tune does, `width` trials at a time that end in an order of their own; a report of None is a failure."""
    chance, live, proposed = random.Random(order), {}, []
    while len(proposed) < trials or live:
        config: Any = None
        if len(proposed) < trials and len(live) < width:
            name = f"trial{first + len(proposed)}"
            config = algorithm.suggest(name)
            if config == TuneSearcher.FINISHED:
                trials = len(proposed)
            elif config is not None:
                live[name] = config["arch"]
                proposed.append(config["arch"])
                continue
        assert live or len(proposed) == trials, "it waits for what nobody runs"
        if live:
            name = chance.choice(sorted(live))
            result = report(live.pop(name))
            algorithm.on_trial_complete(name, result, error=result is None)
    return proposed


def trained(metrics: dict[str, Metrics]) -> Callable[[dict[str, Any]], None]:
    """A user's trainable; defined here, so that workers need not import this module."""

    def train(config: dict[str, Any]) -> None:
        tune.report(metrics[config["arch"]])

    return train


def fit(trainable: Any, algorithm: Any, folder: Path, trials: int, **settings: Any) -> Any:
    chosen = {"param_space": settings.pop("param_space", None)}
    callbacks = settings.pop("callbacks", None)
    return tune.Tuner(
        trainable,
        **chosen,
        tune_config=tune.TuneConfig(search_alg=algorithm, num_samples=trials, reuse_actors=True, **settings),
        run_config=tune.RunConfig(name="run", storage_path=str(folder), verbose=0, callbacks=callbacks),
    ).fit()


@pytest.mark.usefixtures("cluster")
class TestInATuner:
    def test_every_method_searches_for_a_users_own_trainable(
        self, method: Any, metrics: dict[str, Metrics], tmp_path: Path
    ) -> None:
        algorithm = made(method)
        results = fit(trained(metrics), algorithm, tmp_path, 6)
        archs = [result.config["arch"] for result in results]
        assert len(archs) == len(set(archs)) == 6 and not results.errors
        best = {archs[i] for i in non_dominated([[metrics[a][o] for o in OBJECTIVES] for a in archs])}
        front = algorithm.front
        assert set(front["arch"]) == best and front["error"].is_monotonic_increasing
        assert [metrics[a]["latency_ms"] for a in front["arch"]] == front["latency_ms"].tolist()
        # The same as without Tune: neither the order in which trials end nor how many run at a time makes a difference.
        assert sorted(archs) == sorted(play(made(method), metrics.__getitem__, 6, width=1))

    def test_the_choices_may_stand_in_param_space_too(self, metrics: dict[str, Metrics], tmp_path: Path) -> None:
        space = pr.tune.param_space("digits-tiny") | {"epochs": 3}
        algorithm = made("random-search", limits={"latency_ms": 0.3})
        results = fit(
            trained(metrics), algorithm, tmp_path, 4, param_space=space, metric="error", mode="min", max_concurrent_trials=1
        )
        for result in results:
            assert result.config["epochs"] == 3
            assert "-".join(result.config["choices"][f"block{i}"] for i in range(1, 5)) == result.config["arch"]
        assert (algorithm.front["latency_ms"] <= 0.3).all()
        assert results.get_best_result().metrics["error"] == min(r.metrics["error"] for r in results)

    def test_tunes_own_search_samples_the_same_space(self, tmp_path: Path) -> None:
        def train(config: dict[str, Any]) -> None:
            tune.report({"choices": len(config["choices"]["normal"])})

        results = tune.Tuner(
            train,
            param_space=pr.tune.param_space("darts"),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()
        assert results[0].metrics["choices"] == 14
        darts = space_of("darts")
        assert darts.format(pr.tune.architecture(results[0].config, darts)).startswith("Genotype")

    def test_failed_trials_do_not_end_the_search(self, metrics: dict[str, Metrics], tmp_path: Path) -> None:
        def train(config: dict[str, Any]) -> None:
            found = dict(metrics[config["arch"]])
            if config["arch"].startswith("conv3"):
                raise ValueError("out of memory")
            if config["arch"].startswith("sep3"):
                found["latency_ms"] = math.nan
            tune.report(found)

        algorithm = made(pr.searchers.RandomSearch(samples=5))
        results = fit(train, algorithm, tmp_path, 10)
        archs = play(made(pr.searchers.RandomSearch(samples=5)), metrics.__getitem__, 10)
        assert results.num_errors == sum(a.startswith("conv3") for a in archs) > 0
        assert any(a.startswith("sep3") for a in archs)
        assert len(algorithm.front) and not algorithm.front["arch"].str.startswith(("conv3", "sep3")).any()

    def test_a_metric_that_is_not_reported_stops_the_tuner(self, metrics: dict[str, Metrics], tmp_path: Path) -> None:
        def train(config: dict[str, Any]) -> None:
            tune.report({"error": 1.0, "latency": 2.0})

        with pytest.raises(pr.InputError, match=r"has not reported latency_ms; its last report has error, latency: put"):
            fit(train, made(), tmp_path, 10)

    def test_a_killed_tuner_goes_on_with_the_same_proposals(
        self, metrics: dict[str, Metrics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TUNE_GLOBAL_CHECKPOINT_S", "0")

        class Kill(tune.Callback):  # type: ignore[misc]
            ended = 0

            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
                self.ended += 1

            def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
                if self.ended == 7:
                    raise RuntimeError("killed")

            def __getstate__(self) -> dict[str, Any]:
                return {"ended": 100}  # the restored one kills nobody

        nsga2 = pr.searchers.Nsga2(population=4, samples=4)
        with pytest.raises(RuntimeError, match="killed"):
            fit(trained(metrics), made(nsga2), tmp_path, 14, callbacks=[Kill()])
        results = tune.Tuner.restore(str(tmp_path / "run"), trained(metrics)).fit()
        assert sorted(r.config["arch"] for r in results) == sorted(play(made(nsga2), metrics.__getitem__, 14))
        algorithm = made(nsga2)
        algorithm.restore_from_dir(results.experiment_path)
        straight = made(nsga2)
        play(straight, metrics.__getitem__, 14)
        assert algorithm.front.drop(columns="trial_id").equals(straight.front.drop(columns="trial_id"))

    def test_a_damaged_state_ends_the_tuner_rather_than_beginning_again(
        self, metrics: dict[str, Metrics], tmp_path: Path
    ) -> None:
        fit(trained(metrics), made(), tmp_path, 2)
        (state,) = (tmp_path / "run").glob("searcher-state-*.pkl")
        state.write_bytes(b"nothing")
        before = sorted((tmp_path / "run").glob("train_*"))
        with pytest.raises(pr.RunError, match="is damaged, or was not saved by ParetoSearch"):
            tune.Tuner.restore(str(tmp_path / "run"), trained(metrics)).fit()
        assert sorted((tmp_path / "run").glob("train_*")) == before

    def test_a_path_that_cannot_be_written_is_one_error(self, metrics: dict[str, Metrics], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OSError, match=r"file/run"):
            fit(trained(metrics), made(), tmp_path / "file", 2)


def test_the_order_in_which_trials_end_makes_no_difference(method: Any, metrics: dict[str, Metrics]) -> None:
    straight = play(made(method), metrics.__getitem__, 12, width=1)
    assert play(made(method), metrics.__getitem__, 12, width=5, order=1) == straight
    assert play(made(method, seed=1), metrics.__getitem__, 12) != straight


@pytest.mark.parametrize("after", [1, 7])
def test_saved_and_restored_it_goes_on_identically(
    method: Any, after: int, metrics: dict[str, Metrics], tmp_path: Path
) -> None:
    def report(arch: str) -> Metrics | None:
        return None if arch.startswith("res3") else metrics[arch]

    points = {"points_to_evaluate": POINTS} if after == 7 else {}
    straight = made(method, **points)
    play(straight, report, after)
    out = [f"out{i}" for i in range(3)]  # some are still running
    running = {name: config["arch"] for name in out if isinstance(config := straight.suggest(name), dict)}
    straight.save(str(tmp_path / "state"))
    restored = made(method, **points)
    restored.restore(str(tmp_path / "state"))
    copied = pickle.loads(pickle.dumps(straight))
    for algorithm in (straight, restored, copied):
        for name, arch in running.items():
            algorithm.on_trial_complete(name, report(arch), error=report(arch) is None)
    assert straight.front.equals(restored.front) and straight.hypervolume([50.0, 1.0]) == restored.hypervolume([50.0, 1.0])
    expected = play(straight, report, 7, first=after)
    assert len(expected) == 7
    assert play(restored, report, 7, width=2, order=3, first=after) == expected
    assert play(copied, report, 7, first=after) == expected


def test_the_state_is_plain_data(metrics: dict[str, Metrics], tmp_path: Path) -> None:
    algorithm = made("nsga2")
    play(algorithm, metrics.__getitem__, 25)
    algorithm.save(str(tmp_path / "state"))
    torch.load(tmp_path / "state", weights_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with pytest.raises(pr.InputError, match=r"cannot write the search to .*nowhere"):
        algorithm.save(str(tmp_path / "nowhere" / "state"))


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (lambda: pr.tune.ParetoSearch("random-search", "nas-bench-201", OBJECTIVES), "space"),
        (lambda: pr.tune.ParetoSearch("random-search", "digits-tiny", ["error", "parameters"]), "objectives"),
        (lambda: pr.tune.ParetoSearch("nsga2", "digits-tiny", OBJECTIVES), "searcher"),
        (lambda: made(pr.searchers.RandomSearch(samples=3)), "searcher"),
        (lambda: made(limits={"latency_ms": 1.0}), "limits"),
        (lambda: made(seed=1), "seed"),
        (lambda: made(points_to_evaluate=["skip-skip-skip-skip"]), "points_to_evaluate"),
    ],
)
def test_the_state_of_another_search_is_refused(
    other: Callable[[], Any], name: str, metrics: dict[str, Metrics], tmp_path: Path
) -> None:
    algorithm = made("random-search")
    play(algorithm, metrics.__getitem__, 5)
    algorithm.save(str(tmp_path / "state"))
    saved = (tmp_path / "state").read_bytes()
    asked = other()
    with pytest.raises(pr.InputError, match=rf"state was saved with another {name}: .* and here it is "):
        asked.restore(str(tmp_path / "state"))
    assert asked.suggest("one")["arch"] == other().suggest("one")["arch"]  # as it was
    assert (tmp_path / "state").read_bytes() == saved


def test_points_are_run_first_and_learnt_from(method: Any, metrics: dict[str, Metrics]) -> None:
    choices = dict(zip(("block1", "block2", "block3", "block4"), POINTS[1].split("-"), strict=True))
    points = [POINTS[0], {"choices": choices}, {"arch": POINTS[2]}, POINTS[0]]
    algorithm = made(method, points_to_evaluate=points)
    proposed = play(algorithm, metrics.__getitem__, 9)
    assert proposed[:3] == POINTS and len(set(proposed)) == 9
    told = [algorithm.space.format(e.architecture) for e in algorithm._searcher.told]
    assert told[:3] == POINTS


def test_a_policy_learns_from_its_own_proposals_alone(metrics: dict[str, Metrics]) -> None:
    told: list[str] = []
    algorithm = made("preference-policy", num_samples=30, points_to_evaluate=POINTS)
    tell = algorithm._searcher.tell
    algorithm._searcher.tell = lambda found: (told.extend(algorithm.space.format(e.architecture) for e in found), tell(found))
    proposed = play(algorithm, metrics.__getitem__, 30)
    assert proposed[:3] == POINTS and len(set(proposed)) == 30
    assert told[:3] != POINTS and set(proposed[3:]) & set(told)


def test_there_must_be_a_file_to_restore(tmp_path: Path) -> None:
    with pytest.raises(pr.InputError, match="there is no file"):
        made().restore(str(tmp_path / "state"))


def test_it_goes_on_until_the_space_is_used_up_or_as_many_as_it_was_told(metrics: dict[str, Metrics]) -> None:
    archs = play(made(pr.searchers.RandomSearch(samples=50)), metrics.__getitem__, 10_000, width=50)
    assert len(archs) == len(set(archs)) > 600
    assert len(play(made("nsga2", num_samples=33), metrics.__getitem__, 10_000)) == 33


class Repeating(RandomSearch):
    """Asks for each network twice, in a round and in the next."""

    told: list[Any]

    def ask(self, n: int) -> list[Any]:
        asked = super().ask(n // 2)
        return [*asked, *asked]

    def tell(self, evaluations: Any) -> None:
        self.heard = [*getattr(self, "heard", []), *evaluations]
        super().tell(evaluations[: len(evaluations) // 2])


def test_what_is_asked_for_twice_is_run_once(metrics: dict[str, Metrics]) -> None:
    algorithm = made(Repeating)
    archs = play(algorithm, metrics.__getitem__, 20)
    assert len(set(archs)) == 20
    assert len(algorithm._searcher.heard) == 40


def test_failures_are_told_as_the_worst_that_is_known(metrics: dict[str, Metrics]) -> None:
    algorithm = made(pr.searchers.RandomSearch(samples=6), limits={"latency_ms": 0.1})
    failed: list[str] = []

    def report(arch: str) -> Metrics | None:
        if len(failed) < 2:
            failed.append(arch)
            return None
        return metrics[arch]

    archs = play(algorithm, report, 6)
    told = {algorithm.space.format(e.architecture): e for e in algorithm._searcher.told}
    alive = [a for a in archs if a not in failed]
    worst = tuple(max(metrics[a][o] for a in alive) for o in OBJECTIVES)
    over = {a: max(0.0, metrics[a]["latency_ms"] / 0.1 - 1) for a in alive}
    assert all(told[a].costs == worst and told[a].violation == max(1.0, *over.values()) for a in failed)
    assert all(told[a].violation == pytest.approx(over[a]) for a in alive)
    everything = made(pr.searchers.RandomSearch(samples=6))
    assert len(play(everything, lambda arch: None, 12)) == 12 and everything.front.empty
    assert everything.hypervolume([50.0, 1.0]) == 0.0


def test_a_failed_trial_that_was_started_over_counts(metrics: dict[str, Metrics]) -> None:
    algorithm = made(pr.searchers.RandomSearch(samples=1))
    arch = algorithm.suggest("one")["arch"]
    algorithm.on_trial_complete("one", error=True)
    assert algorithm.front.empty
    algorithm.on_trial_complete("again", metrics[arch] | {"config/arch": arch})
    assert algorithm.front["arch"].tolist() == [arch]
    algorithm.on_trial_complete("a stranger", metrics[arch])  # nothing of ours
    assert algorithm.suggest("two")["arch"] != arch


def test_maximised_metrics_and_limits_in_their_own_units() -> None:
    algorithm = pr.tune.ParetoSearch(
        pr.searchers.RandomSearch(samples=4),
        "digits-tiny",
        {"accuracy": "max", "throughput": "max"},
        limits={"accuracy": 80.0, "memory_mb": 100.0},
    )
    reports = [(90.0, 10.0, 50.0), (85.0, 20.0, 50.0), (84.0, 15.0, 50.0), (70.0, 99.0, 150.0)]
    archs = [algorithm.suggest(str(i))["arch"] for i in range(4)]
    for i, row in enumerate(reports):
        algorithm.on_trial_complete(str(i), dict(zip(("accuracy", "throughput", "memory_mb"), row, strict=True)))
    assert algorithm.front["arch"].tolist() == archs[:2]
    assert algorithm.front["throughput"].tolist() == [10.0, 20.0]
    assert algorithm.hypervolume({"accuracy": 80.0, "throughput": 0.0}) == pytest.approx(10 * 10 + 5 * 10)
    told = {e.architecture: e for e in algorithm._searcher.told}
    last = told[algorithm.space.parse(archs[3])]
    assert last.costs == (30.0, -99.0) and last.violation == pytest.approx(10 / 80 + 50 / 100)
    with pytest.raises(pr.InputError, match="a finite number for each of accuracy, throughput"):
        algorithm.hypervolume([80.0])


@pytest.mark.parametrize(
    ("value", "message"), [("fast", "reports latency_ms = 'fast'; it must be a number"), (None, "latency_ms = None")]
)
def test_a_metric_that_is_no_number_stops_the_search(value: Any, message: str) -> None:
    algorithm = made()
    algorithm.suggest("one")
    with pytest.raises(pr.InputError, match=message):
        algorithm.on_trial_complete("one", {"error": np.float32(3.0), "latency_ms": value})
    with pytest.raises(pr.InputError, match=message):
        algorithm.suggest("two")


@pytest.mark.parametrize("name", ["darts", "nasp", "proxyless-g", "tnd-nas"])
def test_methods_of_supernets_are_refused(name: str) -> None:
    with pytest.raises(pr.InputError, match=f"{name} needs the gradients or the shared weights of a supernet"):
        made(name)


def test_a_policy_without_stages_is_welcome(metrics: dict[str, Metrics]) -> None:
    assert len(play(made("preference-policy", num_samples=30), metrics.__getitem__, 30)) == 30
    method = pr.searchers.TndNas(train="paths", keep=())
    assert len(play(made(method, num_samples=30), metrics.__getitem__, 30)) == 30
    with pytest.raises(pr.InputError, match="every objective but the first has to be minimised"):
        made(method, modes={"latency_ms": "max"})


class Raising(RandomSearch):
    def ask(self, n: int) -> list[Any]:
        raise ZeroDivisionError("oh")


class Outside(RandomSearch):
    def ask(self, n: int) -> list[Any]:
        return [(9, 0, 0, 0)]


def test_errors_of_methods_from_outside_name_them() -> None:
    with pytest.raises(pr.RunError, match=r"Raising\.ask raised ZeroDivisionError: oh \(test_tune.py, line \d+\)"):
        made(Raising).suggest("one")
    with pytest.raises(pr.RunError, match=r"Outside\.ask returned what is not in the space: choice 0"):
        made(Outside).suggest("one")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": ["error"]}, "at least two metrics"),
        ({"objectives": ["error", "error"]}, "each named once"),
        ({"objectives": "error"}, "write names of metrics"),
        ({"objectives": ["error", "valid_accuracy"]}, "valid_accuracy would be minimised; write modes="),
        ({"objectives": {"error": "least", "b": "min"}}, 'write "min" or "max"'),
        ({"modes": {"latency": "max"}}, "modes name 'latency', which is no objective; did you mean 'latency_ms'"),
        ({"limits": {"latency_ms": math.inf}}, "write a finite number"),
        ({"num_samples": 0}, "at least 1 is needed"),
        ({"points_to_evaluate": ["skip-skip"]}, r"points_to_evaluate\[0\] = 'skip-skip' is no network of digits-tiny"),
        ({"points_to_evaluate": [{"choices": {}}]}, "write a notation, as in"),
        ({"points_to_evaluate": "skip-skip-skip-skip"}, "write a list of networks"),
        ({"searcher": "nsga3"}, "unknown searcher 'nsga3'"),
        ({"space": "nas-bench-102"}, "unknown space 'nas-bench-102'; did you mean 'nas-bench-101'|'nas-bench-201'"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused(settings: dict[str, Any], message: str) -> None:
    given = {"searcher": "nsga2", "space": "digits-tiny", "objectives": OBJECTIVES} | settings
    with pytest.raises(pr.InputError, match=message):
        pr.tune.ParetoSearch(**given)


def test_what_tune_says_besides_must_not_contradict() -> None:
    algorithm = made()
    assert algorithm.set_search_properties("error", "min", {"lr": 0.1, **pr.tune.param_space("digits-tiny")}, num_samples=3)
    assert algorithm.set_search_properties("loss", "max", {})
    with pytest.raises(pr.InputError, match=r"metric='error', mode='max'.*write ParetoSearch"):
        algorithm.set_search_properties("error", "max", {"lr": 0.1})
    with pytest.raises(pr.InputError, match="param_space samples lr, and ParetoSearch chooses networks alone"):
        algorithm.set_search_properties("error", "min", {"lr": tune.uniform(0, 1)})
    with pytest.raises(pr.InputError, match="other options for choices/block2 than digits-tiny"):
        algorithm.set_search_properties("error", "min", {"choices": {"block2": tune.choice(["a", "b"])}})


@pytest.fixture
def own() -> Iterator[Any]:
    def build(image: tuple[int, int, int], classes: int, width: int = 4) -> Any:
        """A user's own space."""
        act = pr.Choice("act", {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh})
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(math.prod(image), width), act, torch.nn.Linear(width, classes)
        )

    yield build


def test_spaces_may_be_names_objects_components_or_functions(own: Any) -> None:
    assert space_of("digits-tiny").image == (1, 8, 8)  # its own
    assert space_of(own).image == (3, 32, 32) and space_of(own).classes == 10
    assert space_of(own, (1, 4, 4), 3).image == (1, 4, 4)
    assert space_of(pr.spaces.DigitsTiny(channels=4)).settings["channels"] == 4
    space = space_of("digits-tiny", (3, 16, 16), 5)
    assert space_of(space) is space
    with pytest.raises(pr.InputError, match="leave out both"):
        space_of(space, (3, 32, 32))
    algorithm = pr.tune.ParetoSearch("random-search", own, OBJECTIVES, image=(1, 4, 4), classes=3)
    config = algorithm.suggest("one")
    assert config["arch"] == f"act={config['choices']['act']}"
    assert pr.tune.network(config, own, image=(1, 4, 4), classes=3)(torch.zeros(2, 1, 4, 4)).shape == (2, 3)


def test_the_network_of_a_trial_is_built_from_either_spelling() -> None:
    space = space_of("digits-tiny")
    choices = dict(zip(("block1", "block2", "block3", "block4"), ("conv3", "skip", "sep3", "res3"), strict=True))
    assert pr.tune.architecture({"choices": choices}, space) == space.parse("conv3-skip-sep3-res3")
    assert pr.tune.architecture({"arch": "conv3-skip-sep3-res3"}, space) == space.parse("conv3-skip-sep3-res3")
    for config in ({}, {"arch": "conv9"}, {"choices": {"block1": "conv3"}}, {"choices": 3}):
        with pytest.raises(pr.InputError, match="no architecture of digits-tiny"):
            pr.tune.architecture(config, space)


def test_choices_of_every_space_survive_the_way_through_a_config() -> None:
    for name in ("darts", "nas-bench-201", "nsga-net-macro", "nsga-net-micro", "proxyless"):
        algorithm = pr.tune.ParetoSearch("random-search", name, OBJECTIVES)
        config = algorithm.suggest("one")
        chosen = algorithm.space.parse(config["arch"])
        assert algorithm.space.format(pr.tune.architecture({"choices": config["choices"]}, algorithm.space)) == config["arch"]
        assert algorithm.space.format(chosen) == config["arch"]
