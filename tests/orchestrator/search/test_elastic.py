"""Searches of elastic spaces: every method on shared weights, the sandwich rule, fine-tuning, export."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import paretoray as pr
from analysis import front_table, members
from orchestrator.config.experiment import find_searcher
from orchestrator.config.plan import SearchPlan
from orchestrator.data.dataset import Dataset
from orchestrator.errors import InputError
from orchestrator.evaluators.supernet import Supernet
from orchestrator.registry import known
from orchestrator.search.rounds import mixtures_of, proposals_of
from orchestrator.search.trying import try_network
from orchestrator.spaces.elastic.space import ElasticSpace, elastic
from orchestrator.spaces.parts.choice import Weights
from orchestrator.training.parts import Parts
from orchestrator.training.trainer import fit
from searchers import Evaluation, GradientSearcher, Mixture, Stage
from tests.helpers import tiny, tiny_plan
from tests.orchestrator.spaces.elastic_models import resnet

NAME = "tests.orchestrator.spaces.elastic_models:build"
SAMPLED = [name for name in known("searcher") if not issubclass(find_searcher(name), GradientSearcher)]
GRADIENT = [name for name in known("searcher") if name not in SAMPLED]


@pytest.fixture(scope="module")
def problem(digits: Dataset) -> pr.Problem:
    return pr.Problem(NAME, digits, ["error", "parameters"])


@pytest.fixture(scope="module")
def space(problem: pr.Problem) -> ElasticSpace:
    assert isinstance(problem.space, ElasticSpace)
    return problem.space


def stage_of(space: ElasticSpace, **more: Any) -> Stage:
    return Stage(**{"index": 0, "options": tuple(tuple(range(n)) for n in space.sizes), "rounds": 1} | more)


@pytest.mark.parametrize("name", SAMPLED)
def test_every_method_that_samples_searches(problem: pr.Problem, name: str) -> None:
    experiment = tiny(space={"name": NAME}, searcher={"name": name}, objectives={"error": {}, "parameters": {}})
    plan = SearchPlan(experiment, problem)
    searcher = plan.build_searcher()
    evaluator = plan.build_evaluator()
    evaluator.build(searcher.stage, 10)
    for _ in range(20):
        assert evaluator.train(mixtures_of(searcher, 1)) > 0
        if asked := proposals_of(searcher, 2):
            costs = [(100 - m["accuracy"], 1.0) for m in evaluator.measure_on_batch(asked, 0)]  # type: ignore[index]
            searcher.tell([Evaluation(a, c) for a, c in zip(asked, costs, strict=True)])
            break
    else:
        assert searcher.stage.warmup or name == "ddpnas"
    assert evaluator.skipped_steps() == 0


@pytest.mark.parametrize("name", GRADIENT)
def test_methods_that_need_gradients_are_refused(problem: pr.Problem, name: str) -> None:
    plan = SearchPlan(tiny(space={"name": NAME}, searcher={"name": name}), problem)
    with pytest.raises(InputError, match=f"searcher.name = '{name}' mixes operations .* take one that samples networks"):
        plan.build_searcher()


def test_a_users_elastic_space_is_tried_before_a_search(digits: Dataset) -> None:
    plan = tiny_plan(digits, space={"name": NAME, "width": 0.75}, searcher={"name": "nsga2"})
    try_network(plan)
    assert plan.problem.space.settings == {"width": 0.75} and plan.problem.space.name == NAME


def test_a_step_trains_the_largest_on_labels_and_others_on_its_scores(space: ElasticSpace, digits: Dataset) -> None:
    supernet = Supernet(space, digits, batch=16, sandwich=1, clip=1e9)
    supernet.build(stage_of(space), 1)
    before = copy.deepcopy(supernet.model.state_dict())
    middle = Mixture.one_hot(tuple(i % n for i, n in enumerate(space.sizes)), space.sizes)
    x, y, _ = supernet._training_batch()
    supernet.model.train()
    weights = [Weights(Mixture.one_hot(a, space.sizes).weights) for a in (space.largest(), (0,) * len(space.sizes))]
    parameters = list(supernet.model.parameters())
    large = supernet._scores(x, weights[0])
    loss = nn.functional.cross_entropy(large, y)
    wanted = large.detach().softmax(1)
    terms = [torch.autograd.grad(loss, parameters)]
    for other in (Weights(middle.weights), weights[1]):
        soft = nn.functional.cross_entropy(supernet._scores(x, other), wanted)
        terms.append(torch.autograd.grad(soft, parameters, allow_unused=True))
    gradients = [torch.stack([t for t in of if t is not None]).sum(0) for of in zip(*terms, strict=True)]
    supernet.model.load_state_dict(before)
    assert supernet.train([middle]) == pytest.approx(loss.item(), rel=1e-5)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)


def test_weights_are_kept_from_stage_to_stage_and_networks_are_recalibrated(space: ElasticSpace, digits: Dataset) -> None:
    supernet = Supernet(space, digits, batch=16, recalibration=2)
    supernet.build(stage_of(space, stages=2), 1)
    assert supernet.statistics == "recalibrated"
    small = (0,) * len(space.sizes)
    supernet.train([Mixture.one_hot(small, space.sizes)])
    trained = supernet.model.state_dict()["network.model.conv1.weight"].clone()
    supernet.build(stage_of(space, stages=2, index=1), 1)
    assert torch.equal(supernet.model.state_dict()["network.model.conv1.weight"], trained)
    before = supernet.measure([small, space.largest()])
    assert supernet.measure([space.largest(), small]) == before[::-1]
    alone = supernet.standalone(small)
    momenta = [m for m in alone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(not torch.equal(m.running_mean, torch.zeros_like(m.running_mean)) for m in momenta)  # type: ignore[arg-type, type-var]
    resumed = Supernet(space, digits, batch=16, recalibration=2)
    resumed.load_state_dict(supernet.state_dict())
    assert resumed.measure([small]) == before[:1]


def test_settings_of_training_that_do_not_fit_are_refused(space: ElasticSpace, digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"training.sandwich = -1; it counts networks"):
        Supernet(space, digits, sandwich=-1)
    with pytest.raises(InputError, match=r"training.compile: each network of an elastic space has shapes of its own"):
        Supernet(space, digits, compile=True)


def test_a_network_alone_is_fine_tuned(space: ElasticSpace, digits: Dataset) -> None:
    network, architecture = space.network((0,) * len(space.sizes)), (0,) * len(space.sizes)
    before = {name: p.clone() for name, p in network.named_parameters()}
    fit(network, architecture, digits, digits.train, Parts(epochs=1, batch=32, lr=1e-9), fresh=False)
    assert all(torch.allclose(p, before[name], atol=1e-6) for name, p in network.named_parameters())


READER = """
import json, sys
import torch
assert not any(name.startswith(("paretoray", "orchestrator")) for name in sys.modules)
sys.path.insert(0, sys.argv[1])
import network
from safetensors.torch import load_file
known = torch.load(sys.argv[2])
model = network.build()
model.load_state_dict(load_file(sys.argv[1] + "/network.safetensors"))
print(json.dumps(float((model.eval()(known["images"]) - known["scores"]).abs().max())))
"""


@pytest.mark.usefixtures("no_report")
def test_a_front_is_fine_tuned_from_shared_weights_and_exported(tmp_path: Path, digits: Dataset) -> None:
    problem = pr.Problem(elastic(resnet(), width=[0.5, 1], depth=[0.5, 1]), digits, ["error", "parameters"])
    result = pr.search(
        problem,
        "random-search",
        budget=pr.Budget(epochs=1, interval=2),
        training={"batch": 32, "lr": 0.02},
        retrain=pr.Retraining(members=2, epochs=1, batch=32, lr=1e-9),
        workers=pr.Workers(ray=False, count=1),
        out=tmp_path / "run",
    )
    tuned = result.front.dropna(subset=["test_error_percent"])
    member, arch = int(tuned["member"].iloc[0]), str(tuned["arch"].iloc[0])
    shared = torch.load(tmp_path / "run" / "networks" / "shared.pt", weights_only=True)
    begun = problem.space.inheriting(problem.space.parse(arch), shared)
    network = result.network(member)
    assert network is not None
    ended = dict(network.named_parameters())
    assert all(torch.allclose(p, ended[f"network.{n}"] if f"network.{n}" in ended else ended[n], atol=1e-6)
               for n, p in begun.named_parameters())  # fmt: skip
    stored = json.loads((tmp_path / "run" / "networks" / f"network-{member}.json").read_text())
    assert len(stored["settings"]["shared"]) == 16
    spent = result.summary["spent"]  # a step trains the largest network, the smallest one, and two others
    assert spent["images_trained_on"] == 4 * 32 * spent["weight_steps"]
    told = front_table.lead(members.of_run(result.front, None, result.summary), result.summary)
    assert any("fine-tuned from inherited weights for 1 epoch" in line for line in told)
    pr.export(tmp_path / "run", member, tmp_path / "out", formats=["network"], problem=problem)
    images = torch.randn(3, *digits.image)
    with torch.no_grad():
        torch.save({"images": images, "scores": network(images)}, tmp_path / "known.pt")
    command = [sys.executable, "-I", "-c", READER, str(tmp_path / "out"), str(tmp_path / "known.pt")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5
    assert "and then fine-tuned from inherited weights." in (tmp_path / "out" / "card.md").read_text()
    assert np.isfinite(tuned["test_error_percent"]).all()
