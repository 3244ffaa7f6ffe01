"""Weights that change in each step, cotangents against finite differences, and resumption."""

import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from orchestrator.config.spaces import make_space
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError, RunError
from orchestrator.evaluators import supernet as supernets
from orchestrator.evaluators.base import Failure
from orchestrator.evaluators.supernet import Supernet
from orchestrator.objectives.latency import Latency
from orchestrator.spaces.nas_bench_201 import NasBench201
from orchestrator.spaces.parts.choice import Weights
from orchestrator.spaces.parts.depthwise import DepthwiseConv2d
from searchers import Mixture, Stage
from tests.failing import OPTIONS as FAILING
from tests.orchestrator.spaces.small import small

SPACE = NasBench201(channels=4, cells=1, image=(1, 8, 8))
FULL = Stage(0, ((0, 1, 2, 3, 4),) * 6, rounds=10, warmup=6, skips=True)
UNIFORM = Mixture(((0.2,) * 5,) * 6)


def path(*architecture: int) -> Mixture:
    return Mixture.one_hot(architecture, SPACE.sizes)


def made(digits: Dataset, stage: Stage = FULL, **keywords: Any) -> Supernet:
    supernet = Supernet(SPACE, digits, **{"batch": 32, **keywords})
    supernet.build(stage, 20)
    return supernet


def weights(supernet: Supernet) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in supernet.model.state_dict().items()}


def test_unselected_options_do_not_move_even_with_momentum(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.train([UNIFORM] * 3)  # gives every option momentum
    before = weights(supernet)
    supernet.train([path(3, 2, 3, 2, 3, 2)])
    for name, value in weights(supernet).items():
        parts = name.split(".")
        if "options" in parts:
            edge, option = (int(parts[parts.index(key) + 1]) for key in ("edges", "options"))
            assert torch.equal(value, before[name]) != ((3, 2, 3, 2, 3, 2)[edge] == option), name
        else:
            assert not torch.equal(value, before[name]), name


def test_measuring_and_differentiating_leave_no_trace(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.train([UNIFORM] * 2)
    before = weights(supernet)
    supernet.model.zero_grad(set_to_none=True)
    first = supernet.measure_on_batch([(3,) * 6, (1,) * 6], 4)
    supernet.differentiate(UNIFORM, 0)
    assert supernet.measure_on_batch([(3,) * 6, (1,) * 6], 4) == first
    assert all(torch.equal(v, before[k]) for k, v in weights(supernet).items())
    assert all(p.grad is None for p in supernet.model.parameters())


def test_samples_of_a_round_share_a_batch_and_the_whole_part_is_measured_without_one(digits: Dataset) -> None:
    supernet = made(digits, valid_batch=16)
    accuracy = [m["accuracy"] for m in supernet.measure_on_batch([(3,) * 6], 0)]
    assert accuracy[0] * 16 / 100 == pytest.approx(round(accuracy[0] * 16 / 100))
    assert supernet.measure_on_batch([(3,) * 6, (3,) * 6], 0) == supernet.measure_on_batch([(3,) * 6], 0) * 2
    whole = supernet.measure([(3,) * 6])[0]["accuracy"] * len(digits.valid) / 100
    assert whole == pytest.approx(round(whole))


def test_training_learns_real_digits(digits: Dataset) -> None:
    supernet = made(digits, lr=0.1, skip_dropout=())
    supernet.steps = 80
    before = supernet.measure([(3, 1, 1, 1, 1, 3)])[0]["accuracy"]
    losses = [supernet.train([path(3, 1, 1, 1, 1, 3)] * 10) for _ in range(8)]
    assert losses[-1] < 0.5 * losses[0]
    assert supernet.measure([(3, 1, 1, 1, 1, 3)])[0]["accuracy"] > max(60, before + 30)


def test_only_wanted_cotangents_are_given(digits: Dataset) -> None:
    supernet = made(digits)
    wanted = tuple(tuple(o in (2, 3) for o in range(5)) for _ in range(6))
    _, cotangents = supernet.differentiate(Mixture(path(3, 3, 3, 3, 3, 3).weights, wanted), 0)
    assert len(cotangents) == 6
    for row in cotangents:
        assert row[2] != 0 and row[3] != 0 and row[0] == row[1] == row[4] == 0


def test_it_goes_on_where_it_was_saved(digits: Dataset, tmp_path: Any) -> None:
    straight, plan = made(digits), [UNIFORM, path(3, 1, 3, 1, 3, 1), path(2, 2, 2, 2, 2, 2)]
    straight.train(plan)
    torch.save(straight.state_dict(), tmp_path / "s.pt")
    straight.train(plan)
    resumed = Supernet(SPACE, digits, batch=32)
    resumed.load_state_dict(torch.load(tmp_path / "s.pt", weights_only=True))
    resumed.train(plan)
    assert resumed.step == straight.step == 6
    assert all(torch.equal(v, weights(straight)[k]) for k, v in weights(resumed).items())


def test_a_new_stage_has_new_and_fewer_weights(digits: Dataset) -> None:
    supernet = made(digits)
    many = sum(p.numel() for p in supernet.model.parameters())
    supernet.train([UNIFORM])
    supernet.build(Stage(1, ((1, 3),) * 6, rounds=10, stages=2), 20)
    assert sum(p.numel() for p in supernet.model.parameters()) < many and supernet.step == 1
    assert not supernet._optimizer.state


def test_a_stage_keeps_weights_if_asked_to_and_the_network_is_no_deeper(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.train([UNIFORM])
    before = weights(supernet)
    supernet.build(Stage(1, ((1, 3),) * 6, rounds=10, stages=2, inherits=True), 20)
    after = weights(supernet)
    assert len(after) < len(before) and all(torch.equal(v, before[k]) for k, v in after.items())
    assert not supernet._optimizer.state
    deepening = Supernet(small("nas-bench-201", cells=3), digits, batch=32)
    deepening.build(Stage(0, FULL.options, rounds=10, stages=3, inherits=True), 20)
    shallow = weights(deepening)
    deepening.build(Stage(2, FULL.options, rounds=10, stages=3, inherits=True), 20)
    same = [k for k, v in weights(deepening).items() if k in shallow and v.shape == shallow[k].shape and v.unique().numel() > 1]
    assert same and not any(torch.equal(weights(deepening)[k], shallow[k]) for k in same)


def test_learning_rate_falls_to_zero_and_skip_dropout_with_it(digits: Dataset) -> None:
    supernet = made(digits, skip_dropout=(0.4,))
    rates, learning = [], []
    for _ in range(20):
        supernet.train([UNIFORM])
        rates.append(supernet._skips[0].rate)
        learning.append(supernet._optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.4) and rates[10] == pytest.approx(0.2)
    assert rates[12] == pytest.approx(0.4) and rates[16] == pytest.approx(0.4 * np.exp(-5 * 0.2))
    supernet.train([path(1, 1, 1, 1, 1, 1)])
    assert supernet._skips[0].rate == 0  # a path is not a mixture that could lean on its skips
    assert learning[0] == pytest.approx(0.025) and learning[-1] < 0.025 * 0.01 and learning == sorted(learning, reverse=True)


def test_skip_dropout_acts_in_training_only(digits: Dataset) -> None:
    supernet = made(digits)
    skip = supernet._skips[0]
    skip.rate = 0.5
    x = torch.ones(1000)
    skip.chance = torch.Generator().manual_seed(0)
    dropped = skip.train()(x)
    assert set(dropped.tolist()) == {0.0, 2.0} and float(dropped.mean()) == pytest.approx(1, abs=0.15)
    assert torch.equal(skip.eval()(x), x)


def test_probing_builds_the_full_network_with_fixed_weights(digits: Dataset) -> None:
    seen = []

    class Probe(Latency):
        def measure_on_device(self, network: torch.nn.Module, image: torch.Tensor) -> dict[str, float]:
            seen.append(network)
            return super().measure_on_device(network, image)

    space = NasBench201(channels=4, cells=3, supernet_cells=[1], image=(1, 8, 8))
    supernet = Supernet(space, digits, [Probe(space, seconds=0.001)])
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    (metrics,) = supernet.measure_on_device([(3,) * 6])
    assert metrics["latency_ms"] > 0 and metrics["latency_iqr_ms"] >= 0
    assert sum(p.numel() for p in seen[0].parameters()) == sum(o.parameters for o in space.operations((3,) * 6))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_loss_that_explodes_is_an_error_with_advice(digits: Dataset) -> None:
    supernet = made(digits, lr=1e30, clip=1e30)
    with pytest.raises(RunError, match=rf"^{supernets.MOST_SKIPPED} weight steps in a row .* lower training\.lr \(now 1e"):
        supernet.train([UNIFORM] * (supernets.MOST_SKIPPED + 8))


def failing(digits: Dataset, **keywords: Any) -> Supernet:
    space = make_space("tests.failing:build", {}, digits.image, len(digits.classes))
    supernet = Supernet(space, digits, batch=32, **keywords)
    options = tuple(tuple(range(size)) for size in space.sizes)
    supernet.build(Stage(0, options, rounds=10), 20)
    return supernet


def one(*architecture: int) -> Mixture:
    return Mixture.one_hot(architecture, (len(FAILING),) * 2)


@pytest.mark.parametrize("option", ["nan", "serving", "hungry"])
@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_a_step_that_cannot_be_taken_changes_nothing_and_is_counted(digits: Dataset, option: str, statistics: Any) -> None:
    supernet, straight = failing(digits, statistics=statistics), failing(digits, statistics=statistics)
    fine, bad = one(0, 1), one(1, FAILING.index(option))
    loss = supernet.train([fine, bad, bad])
    assert loss == straight.train([fine]) and supernet.skipped_steps() == 2 and straight.skipped_steps() == 0
    trained = dict(straight.model.named_parameters())
    for name, parameter in supernet.model.named_parameters():
        assert torch.equal(parameter, trained[name]), name
    assert all(bool(value.isfinite().all()) for value in supernet.model.state_dict().values())
    assert math.isnan(supernet.train([bad])) and math.isfinite(supernet.train([fine]))
    restored = failing(digits, statistics=statistics)
    restored.load_state_dict(supernet.state_dict())
    assert restored.skipped_steps() == 3


def test_one_network_that_fails_for_a_whole_epoch_does_not_end_a_search_but_many_do(digits: Dataset) -> None:
    supernet, bad = failing(digits), FAILING.index("serving")
    supernet.train([one(0, bad)] * (supernets.MOST_SKIPPED + 5))
    others = [one(i % 2, bad) for i in range(supernets.MOST_SKIPPED + 5)]
    with pytest.raises(RunError, match=r"in a row .*only for serving \(failing.py, line \d+\).*remove the option"):
        supernet.train(others)


def test_what_a_network_fails_at_is_said_and_the_others_are_measured(digits: Dataset) -> None:
    supernet = failing(digits, statistics="recalibrated")
    nan, serving, hungry = (FAILING.index(option) for option in ("nan", "serving", "hungry"))
    supernet.train([one(0, 1)] * 2)
    good, bad, again = supernet.measure([(0, 1), (0, nan), (0, 1)])
    assert good == again and isinstance(bad, Failure) and "not finite" in bad.reason
    alone = supernet.train_alone([(0, 1), (0, serving), (0, nan), (0, hungry)], 1)
    assert isinstance(alone[0], dict) and alone[0]["accuracy"] > 0
    raised, diverged, memory = alone[1:]
    assert isinstance(raised, Failure) and raised.reason.startswith("ValueError: only for serving (failing.py, line ")
    assert isinstance(diverged, Failure) and "diverged in epoch 0; lower training.lr" in diverged.reason
    assert isinstance(memory, Failure) and memory.reason.startswith("MemoryError")


def test_a_gradient_that_is_not_finite_is_no_gradient(digits: Dataset) -> None:
    supernet, nan = failing(digits), FAILING.index("nan")
    before = weights(supernet)
    for unrolled in (False, True):
        assert supernet.differentiate(one(0, nan), 0, unrolled) is None
    assert supernet.differentiate(one(0, 1), 0) is not None
    assert all(torch.equal(value, before[name]) for name, value in weights(supernet).items())
    with pytest.raises(RunError, match="gradients of mixtures in a row"):
        for _ in range(supernets.MOST_SKIPPED):
            supernet.differentiate(one(0, nan), 0)


@pytest.mark.parametrize("bad", [{"batch": 0}, {"lr": 0.0}, {"skip_dropout": (1.0,)}, {"batch": 1, "world": 2}])
def test_impossible_settings_are_refused(digits: Dataset, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Supernet(SPACE, digits, **bad)


def test_dropping_frees_parameters_and_optimizer_state_and_keeps_the_rest(digits: Dataset) -> None:
    supernet = made(digits)
    supernet.train([UNIFORM] * 2)
    before = weights(supernet)
    state = len(supernet._optimizer.state)
    supernet.drop(Stage(0, ((1, 3),) * 6, rounds=10, warmup=6))
    left = weights(supernet)
    assert 0 < len(left) < len(before) and all(torch.equal(value, before[name]) for name, value in left.items())
    kept = set(supernet.model.parameters())
    assert set(supernet._optimizer.state) <= kept and len(supernet._optimizer.state) < state
    assert {p for group in supernet._optimizer.param_groups for p in group["params"]} == kept
    supernet.train([path(3, 1, 3, 1, 3, 1)])
    assert any(not torch.equal(value, left[name]) for name, value in weights(supernet).items())
    with pytest.raises(ValueError, match="choice 0 has the options"):
        supernet.drop(Stage(0, ((1, 2),) * 6, rounds=10, warmup=6))


def test_a_dropped_supernet_goes_on_where_it_was_saved(digits: Dataset) -> None:
    straight = made(digits)
    straight.train([UNIFORM])
    straight.drop(Stage(0, ((1, 3),) * 6, rounds=10, warmup=6))
    straight.train([path(3, 1, 3, 1, 3, 1)])
    resumed = Supernet(SPACE, digits, batch=32)
    resumed.load_state_dict(straight.state_dict())
    for supernet in (straight, resumed):
        supernet.train([path(1, 3, 1, 3, 1, 3)] * 2)
    assert all(torch.equal(v, weights(straight)[k]) for k, v in weights(resumed).items())


def norms(supernet: Supernet) -> list[torch.nn.BatchNorm2d]:
    return [m for m in supernet.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_scales_of_normalisation_are_those_of_the_papers_unless_set(digits: Dataset) -> None:
    assert not any(norm.affine for norm in norms(made(digits)))
    assert all(norm.affine and norm.weight is not None for norm in norms(made(digits, affine=True)))
    for name, affine in (("proxyless", True), ("proxyless-cifar", True), ("darts", False), ("ddpnas-mobile", False)):
        space = small(name)
        assert space.affine is affine
        supernet = Supernet(space, digits)
        supernet.build(Stage(0, tuple(tuple(range(n)) for n in space.sizes), rounds=10), 10)
        assert any(norm.affine for norm in norms(supernet)) is affine


def test_batch_statistics_keep_no_averages_and_running_ones_do(digits: Dataset) -> None:
    batch, running = made(digits), made(digits, statistics="running")
    assert not any("running_mean" in name for name in weights(batch))
    start = {k: v for k, v in weights(running).items() if "running_mean" in k}
    running.train([UNIFORM] * 2)
    trained = weights(running)
    assert any(not torch.equal(trained[name], value) for name, value in start.items())
    running.differentiate(UNIFORM, 0)
    running.measure_on_batch([(3,) * 6], 0)
    assert all(torch.equal(value, trained[name]) for name, value in weights(running).items())


def test_running_averages_decide_what_is_measured(digits: Dataset) -> None:
    supernet = made(digits, statistics="running", lr=0.1, skip_dropout=())
    supernet.train([path(3, 1, 1, 1, 1, 3)] * 20)
    good = supernet.measure([(3, 1, 1, 1, 1, 3)])[0]["accuracy"]
    for norm in norms(supernet):
        assert norm.running_mean is not None
        norm.running_mean += 3.0
    assert supernet.measure([(3, 1, 1, 1, 1, 3)])[0]["accuracy"] < good - 10


def test_recalibration_fits_the_statistics_to_each_network(digits: Dataset) -> None:
    one = (3, 1, 1, 1, 1, 3)
    supernet = made(digits, statistics="recalibrated", recalibration=4, lr=0.1, skip_dropout=())
    supernet.train([path(*one)] * 40)
    alone = supernet.measure([one])
    for norm in norms(supernet):
        assert norm.running_mean is not None
        norm.running_mean += 3.0  # as stale as can be
    assert supernet.measure([(3,) * 6, one, (1,) * 6, one])[1::2] == alone * 2
    assert alone[0]["accuracy"] > 30
    indices = torch.cat([torch.from_numpy(supernet._batches[step]) for step in range(4)])
    x = digits.normalise(supernet._train.images[indices])
    stem, norm = supernet.model.network.stem  # type: ignore[union-attr,misc]
    expected = torch.stack([stem(part).mean(dim=(0, 2, 3)) for part in x.split(32)]).mean(dim=0)
    assert torch.allclose(norm.running_mean, expected, atol=1e-5)
    with pytest.raises(InputError, match="recalibration"):
        made(digits, recalibration=0)


def test_layouts_train_alike(digits: Dataset) -> None:
    last, first = made(digits, channels_last=True), made(digits, channels_last=False)
    losses = [supernet.train([UNIFORM] * 3) for supernet in (last, first)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    conv = next(
        m for m in last.model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3) and m.in_channels > 1
    )
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_learns_in_single_precision_weights(digits: Dataset) -> None:
    supernet = made(digits, amp=True, lr=0.1, skip_dropout=())
    seen = []
    for module in supernet.model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: seen.append(y.dtype))
    supernet.steps = 60
    first = supernet.train([path(3, 1, 1, 1, 1, 3)] * 5)
    assert set(seen) == {torch.bfloat16}
    assert supernet.train([path(3, 1, 1, 1, 1, 3)] * 40) < 0.8 * first
    assert all(p.dtype == torch.float32 for p in supernet.model.parameters())
    loss, cotangents = supernet.differentiate(UNIFORM, 0)
    assert np.isfinite(loss) and any(c != 0 for row in cotangents for c in row)


@pytest.mark.long
@pytest.mark.numeric  # `make portability` runs it under several kernels, which share torch's folder of compiled code
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles for the CPU with a C++ compiler, and there is none")
def test_compiled_operations_compute_the_same(digits: Dataset) -> None:
    space = small("digits-tiny")
    stage = Stage(0, ((2,), (0,), (0,), (0,)), rounds=10)
    plain, compiled = Supernet(space, digits, batch=32), Supernet(space, digits, batch=32, compile=True)
    mixture = Mixture.one_hot((2, 0, 0, 0), space.sizes)
    for supernet in (plain, compiled):
        supernet.build(stage, 10)
    assert compiled.train([mixture] * 2) == pytest.approx(plain.train([mixture] * 2), abs=1e-4)
    assert compiled.measure([(2, 0, 0, 0)]) == plain.measure([(2, 0, 0, 0)])
    assert any(m._compiled_call_impl is not None for m in compiled.model.modules())
    assert torch.compiler.config.cache_key_tag == torch.backends.cpu.get_cpu_capability()
    assert compiled.state_dict()["model"].keys() == plain.state_dict()["model"].keys()


def test_the_second_order_is_the_gradient_through_one_weight_step(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against autograd through the step itself, momentum and weight decay included; and it leaves no trace."""
    monkeypatch.setattr(supernets, "_REACH", 1e-5)  # ReLUs bend within the paper's 0.01
    space = small("digits-tiny")
    supernet = Supernet(space, digits, batch=32, valid_batch=32, lr=0.05, weight_decay=3e-3)
    supernet.build(Stage(0, tuple(tuple(range(n)) for n in space.sizes), rounds=10), 10)
    mixture = Mixture(((0.3, 0.1, 0.2, 0.2, 0.2),) * 4)
    supernet.train([mixture] * 2)  # so that there is momentum
    supernet.model.double()
    for state in supernet._optimizer.state.values():
        state["momentum_buffer"] = state["momentum_buffer"].double()
    supernet.data = type(
        "Double",
        (),
        {
            "normalise": lambda self, x: digits.normalise(x).double(),
            "augment_both": lambda self, x, y, rng: digits.augment_both(x, y, rng),
        },
    )()  # type: ignore[assignment]
    before = weights(supernet)
    value, cotangents = supernet.differentiate(mixture, 3, unrolled=True)
    assert all(torch.equal(v, before[k]) for k, v in weights(supernet).items())
    first = supernet.differentiate(mixture, 3)[1]

    supernet._schedule(one_hot=True)
    rate = supernet._optimizer.param_groups[0]["lr"]
    x, y, count = supernet._training_batch()
    indices = supernet._valid_batches[3]
    valid = (supernet.data.normalise(supernet._valid.images[indices]), supernet._valid.labels[indices])
    rows = [[torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in row] for row in mixture.weights]
    names, parameters = zip(*supernet.model.named_parameters(), strict=True)
    # Only Choice itself and torch's own layers here: the depthwise convolution's backward pass cannot be differentiated again.
    for module in supernet.model.modules():
        if isinstance(module, DepthwiseConv2d):
            module.forward = super(DepthwiseConv2d, module).forward  # type: ignore[method-assign]
    loss = supernet._loss(x, y, Weights(rows), count)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    stepped = {}
    for name, p, g in zip(names, parameters, gradients, strict=True):
        momentum = supernet._optimizer.state[p]["momentum_buffer"]
        stepped[name] = p - rate * (0.9 * momentum + g + 3e-3 * p)
    scores = torch.func.functional_call(supernet.model, stepped, (valid[0], Weights(rows)))
    unrolled = torch.nn.functional.cross_entropy(scores, valid[1])
    flat = [w for row in rows for w in row]
    exact = torch.autograd.grad(unrolled, flat)
    assert value == pytest.approx(float(unrolled.detach()))
    found = [c for row in cotangents for c in row]
    off = max(abs(a - float(b)) for a, b in zip(found, exact, strict=True))
    second = max(abs(a - float(b)) for a, b in zip((c for row in first for c in row), exact, strict=True))
    assert off < 1e-3 * second, (off, second)  # without the second order it is far off


def test_a_space_of_repaired_strings_is_compiled_as_well(digits: Dataset) -> None:
    space = small("nsga-net-macro", image=(1, 8, 8))
    supernet = Supernet(space, digits, compile=True)
    supernet.build(Stage(0, ((0, 1),) * len(space.sizes), rounds=10), 10)
    compiled = [name for name, m in supernet.model.named_modules() if m._compiled_call_impl is not None]
    assert any("node" in name for name in compiled) and any("head" in name for name in compiled)


def test_normalisation_of_a_user_that_keeps_no_averages_is_left_as_it_is(digits: Dataset) -> None:
    supernet = made(digits, statistics="recalibrated")
    norm = norms(supernet)[0]
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    assert norm not in [n for n in supernets._normalisation(supernet.model, False, tracked=True) if n.track_running_stats]
    supernet.measure_on_batch([(3,) * 6], 0)
    supernet.differentiate(UNIFORM, 0)
    assert not norm.track_running_stats and norms(supernet)[1].track_running_stats


def test_derivatives_keep_no_activations_for_weights_and_leave_frozen_ones_frozen(digits: Dataset) -> None:
    supernet = made(digits)
    frozen = next(supernet.model.parameters())
    frozen.requires_grad_(False)
    batch = (digits.normalise(digits.valid.images[:32]), digits.valid.labels[:32], 32)

    def kept(parameters: list[torch.nn.Parameter]) -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            supernet._cotangents(UNIFORM, *batch, parameters=parameters)
        return sum(sizes)

    assert kept([]) < 0.9 * kept([p for p in supernet.model.parameters() if p.requires_grad])
    assert [p.requires_grad for p in supernet.model.parameters()] == [p is not frozen for p in supernet.model.parameters()]
