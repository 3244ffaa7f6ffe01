"""Training-free scores, also called zero-cost proxies: what a network at initialisation says of its accuracy after training.

Definitions are those of the papers and of their authors' code, higher is better for all. Differences are stated where they are
made.

| score | by |
| --- | --- |
| `jacob_cov` | Mellor et al., arXiv 2006.04647v1, as in SamsungLabs/zero-cost-nas (Abdelfattah et al., arXiv 2101.08134) |
| `naswot` | Mellor et al., arXiv 2006.04647, and BayesWatch/nas-without-training |
| `synflow` | Tanaka et al., arXiv 2006.05467, as in SamsungLabs/zero-cost-nas; its logarithm |
| `zico` | Li et al., arXiv 2301.11300, and SLDGroup/ZiCo |
| `expressivity`, `progressivity`, `trainability` | Lee and Ham, AZ-NAS, arXiv 2403.19232, and cvlab-yonsei/AZ-NAS |
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from orchestrator.data.dataset import Batches, Dataset
from orchestrator.errors import InputError
from orchestrator.objectives.base import Metrics
from orchestrator.registry import describe_error, nearest
from orchestrator.spaces.base import SearchSpace
from orchestrator.tasks import Task
from orchestrator.tasks.classification import Classification
from searchers.base import Architecture

log = logging.getLogger(__name__)

BATCH = 32
"""Images per batch. The authors take 64 (zero-cost-nas, AZ-NAS) or 128 (nas-without-training); half of that costs half, and
ranks NAS-Bench-201's cells as well (docs/figures.md)."""
_WEIGHTS, _IMAGES, _NOISE = 201, 202, 203
"""Streams of chance, apart from those of training."""
_SMALL = 1e-5
"""Added to the eigenvalues of jacob_cov, as in the authors' code."""


class NoValue(Exception):
    """Reason why a score is not defined for a network."""


@dataclass(frozen=True)
class Images:
    """Input of the scores, all on one device.

    Args:
        batches: Two batches of normalised training images, (images, channels, height, width) each.
        labels: Their labels, (images,) each.
        noise: Standard normal noise of a batch's shape, for the parts of AZ-NAS.
        task: The loss.
    """

    batches: tuple[Tensor, Tensor]
    labels: tuple[Tensor, Tensor]
    noise: Tensor
    task: Task = field(default_factory=Classification)


@dataclass(frozen=True)
class Scored:
    """Scores of a network.

    Args:
        values: Score by name, NaN for no value.
        reasons: Reason of each that has no value, by name.
    """

    values: Metrics
    reasons: Mapping[str, str] = field(default_factory=dict)


def score_network(network: nn.Module, images: Images, names: Collection[str], seed: int = 0) -> Scored:
    """Compute scores of a network at initialisation; its weights and running averages are changed.

    A score that is not defined for the network, is not finite or raises an error has no value. Dropout is off. `synflow` takes
    the network's weights as they are; for the others those of convolutions and linear layers are drawn anew, normal with the
    variance 2 / fan-in of Kaiming and biases of 0. This is AZ-NAS's way; the others' authors have the network's own default,
    with which jacob_cov ranks NAS-Bench-201's cells less well (docs/figures.md).

    Args:
        network: Network that returns logits, (images, classes), or a tuple, list or dictionary that begins with them.
        images: Images on the device of the network.
        names: Names of the scores (see `SCORES`).
        seed: Seed of these weights, and of random signs for `trainability`.

    Example:
        >>> x = torch.randn(2, 8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
        >>> images = Images((x[0], x[1]), (torch.arange(8) % 2, torch.arange(8) % 2), x[0])
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 2))
        >>> score_network(network, images, ["naswot"])
        Scored(values={'naswot': nan}, reasons={'naswot': 'no ReLU of the network was seen to reach its output'})
    """
    values: Metrics = dict.fromkeys(names, math.nan)
    reasons: dict[str, str] = {}
    for members, function, drawn in _FUNCTIONS:
        if not (wanted := [name for name in members if name in values]):
            continue
        for module in network.modules():
            module.training = not isinstance(module, _DropoutNd)
        with torch.random.fork_rng(devices=[d for d in [images.noise.get_device()] if d >= 0]):
            torch.manual_seed(seed)
            try:
                if drawn:
                    _draw_weights(network)
                outcomes = function(network, images)
            except Exception as error:  # whatever somebody's network may raise
                reasons |= dict.fromkeys(wanted, _reason(error))
                continue
            for name in wanted:
                try:
                    values[name] = _finite(outcomes[name]())
                except Exception as error:
                    reasons[name] = _reason(error)
    return Scored(values, reasons)


def _draw_weights(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, (_ConvNd, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, NoValue) else describe_error(error).splitlines()[0]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise NoValue(f"it is {value}")
    return value


def logits_of(output: Any) -> Tensor:
    """Return the logits of what a network returns: of several outputs, the first; the others are auxiliary."""
    while not isinstance(output, Tensor):
        if not isinstance(output, (Mapping, tuple, list)) or not output:
            raise NoValue(f"the network returns {type(output).__name__} instead of logits")
        output = next(iter(output.values() if isinstance(output, Mapping) else output))
    return output


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of convolutions and linear layers by name: the parameters of two or more dimensions that train."""
    return {name: p for name, p in network.named_parameters() if p.dim() > 1 and p.requires_grad}


# The scores of one forward pass: jacob_cov, naswot


def _first_pass(network: nn.Module, images: Images) -> Mapping[str, Callable[[], float]]:
    x = images.batches[0].clone().requires_grad_()
    codes = _Codes()
    with codes:
        logits = logits_of(network(x.clone()))  # an in-place operation may come first

    def jacob() -> float:
        gradient = torch.autograd.grad(logits.sum(), x, allow_unused=True)[0] if logits.requires_grad else None
        if gradient is None:
            raise NoValue("the output does not depend on the image")
        return jacob_cov(gradient.flatten(1).double().cpu().numpy())

    return {"naswot": lambda: naswot(codes.reaching(logits)), "jacob_cov": jacob}


def jacob_cov(gradients: NDArray[np.float64]) -> float:
    """Return how unlike each other the gradients at different images are.

    Minus the sum of log(v + 1e-5) + 1 / (v + 1e-5) over the eigenvalues v of their correlation matrix, which is largest, minus
    the number of images, where none correlate.

    Args:
        gradients: Gradient of the sum of all logits at each image, (images, pixels).

    Raises:
        NoValue: Where a gradient is the same at all pixels.
    """
    if not (gradients.std(axis=1) > 0).all():
        raise NoValue("the gradient at an image is the same for all pixels")
    values = np.linalg.eigvalsh(np.corrcoef(gradients)) + _SMALL
    return -float(np.sum(np.log(values) + 1 / values))


def naswot(codes: Sequence[Tensor]) -> float:
    """Return the log determinant of the kernel that counts, for each pair of images, the ReLUs in the same state.

    Args:
        codes: States of the ReLUs, true for positive input, (images, units) for each layer.

    Raises:
        NoValue: Without ReLUs, and where images cannot be told apart by them.
    """
    if not codes:
        raise NoValue("no ReLU of the network was seen to reach its output")
    kernel = np.zeros((len(codes[0]),) * 2)
    for code in codes:
        signs = code.float() * 2 - 1  # agreements are (units + the inner product of signs) / 2
        kernel += 0.5 * (signs.shape[1] + (signs @ signs.T).double().cpu().numpy())
    values = np.linalg.eigvalsh(kernel)
    # Of a singular kernel, rounding would leave some finite number.
    if values[0] <= len(kernel) * np.finfo(float).eps * values[-1]:
        raise NoValue("the states of its ReLUs are the same, or linearly dependent, at some images")
    return float(np.log(values).sum())


_RELUS = frozenset(
    [
        *(torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu, functional.relu_, functional.relu6),
        *(functional.leaky_relu, functional.leaky_relu_, functional.rrelu, functional.rrelu_, functional.prelu, Tensor.prelu),
    ]
)


class _Codes(TorchFunctionMode):
    """States of all ReLUs that run while it is active, as modules or as functions.

    An in-place ReLU overwrites its input, so states are taken before it runs. ReLUs inside of compiled or scripted code are not
    seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: list[tuple[Any, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in _RELUS and not (func is functional.hardtanh and _begins_at_0(*args, **kwargs)):  # nn.ReLU6 is a hardtanh
            return func(*args, **kwargs)
        x = args[0] if args else kwargs["input"]
        states = x.detach() > 0
        y = func(*args, **kwargs)
        self._seen.append((y.grad_fn, states))
        return y

    def reaching(self, logits: Tensor) -> list[Tensor]:
        """Return the states of the ReLUs that reach the output, as the authors leave out those without a gradient."""
        reached, waiting = set(), [logits.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in reached:
                reached.add(node)
                waiting += [before for before, _ in node.next_functions]
        per_image = (states for node, states in self._seen if node in reached and states.shape[:1] == logits.shape[:1])
        return [states.reshape(len(logits), -1) for states in per_image]


def _begins_at_0(input: Tensor, min_val: float = -1.0, *_: Any, **__: Any) -> bool:
    return min_val == 0


# synflow


class _WithoutNorms(TorchFunctionMode):
    """Leaves out every normalisation, module or function: it would undo the flow that synflow adds up."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _NORMS:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


_NORMS = frozenset(
    [
        *(functional.batch_norm, functional.instance_norm, functional.group_norm, functional.layer_norm),
        *(functional.rms_norm, functional.local_response_norm),
    ]
)


def _synflow(network: nn.Module, images: Images) -> Mapping[str, Callable[[], float]]:
    """Return the log of the sum of abs(weight * d R / d weight), R being the sum of the logits for an image of ones when all
    parameters have their absolute values. In double precision, as R is a product over the depth."""

    def positive(tensors: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
        return {name: t.detach().double().abs() if t.is_floating_point() else t for name, t in tensors}

    weights = weights_of(network)
    state = positive(network.named_buffers()) | positive(network.named_parameters())
    inputs = [state[name].requires_grad_() for name in weights]
    network.eval()  # a batch of one image, which no statistics are taken of
    ones = torch.ones_like(images.batches[0][:1], dtype=torch.float64)
    with _WithoutNorms():
        flow = logits_of(functional_call(network, state, (ones,))).sum()
    gradients = torch.autograd.grad(flow, inputs, allow_unused=True)
    total = sum(float((w.detach() * g).abs().sum()) for w, g in zip(inputs, gradients, strict=True) if g is not None)
    if total <= 0:
        raise NoValue("no weight lies on a way from the image to the output")
    return {"synflow": lambda: math.log(total)}


# zico


def _zico(network: nn.Module, images: Images) -> Mapping[str, Callable[[], float]]:
    weights = list(weights_of(network).values())
    gradients = []
    for x, y in zip(images.batches, images.labels, strict=True):
        loss = images.task.loss(logits_of(network(x.clone())), y) / len(y)
        gradients.append(torch.autograd.grad(loss, weights, allow_unused=True))
    layers = [torch.stack(list(layer)) for layer in zip(*gradients, strict=True) if all(g is not None for g in layer)]
    return {"zico": lambda: zico(layers)}


def zico(layers: Sequence[Tensor]) -> float:
    """Return the sum over layers of log(sum over weights of the mean absolute gradient over its deviation).

    The gradients of each batch stand for themselves, as in the paper; in the authors' code the second is the sum of both, as
    they are not set to zero in between.

    Args:
        layers: Gradients of the loss, (batches, ...) for each layer.

    Raises:
        NoValue: Where no gradient differs from batch to batch.
    """
    total, counted = 0.0, 0
    for gradients in layers:
        flat = gradients.flatten(1).double()
        mean, deviation = flat.abs().mean(dim=0), flat.std(dim=0, correction=0)
        differing = deviation > 0
        ratios = float((mean[differing] / deviation[differing]).sum())
        if ratios > 0:
            total, counted = total + math.log(ratios), counted + 1
    if not counted:
        raise NoValue("no weight's gradient differs from batch to batch")
    return total


# The parts of AZ-NAS


def _az_nas(network: nn.Module, images: Images) -> Mapping[str, Callable[[], float]]:
    features = feature_maps(network, images.noise)
    if len(features) < 2:
        raise NoValue(f"it compares the outputs of successive blocks, of which this network has {len(features)}")
    entropies = np.array([spectral_entropy(f.detach()) for f in features])
    return {
        "expressivity": lambda: float(entropies.sum()),
        "progressivity": lambda: float(np.diff(entropies).min()),
        "trainability": lambda: _trainability(features),
    }


def feature_maps(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Run the network and return the output of each of its blocks, (images, channels, height, width), in the order of the run.

    For a network of stem and cells these are AZ-NAS's. In general, a block is a module that is neither a leaf nor an
    `nn.Sequential`, `nn.ModuleList` or `nn.ModuleDict`, of which the parts are looked at; or else a convolution, together with
    the normalisation, activation or pooling right after it.
    """
    outputs: list[tuple[Tensor, bool]] = []  # and whether the block is a convolution

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or output.dim() != 4 or len(output) != len(x):
            return
        if outputs and output is outputs[-1][0]:
            return  # an identity, which is no block; AZ-NAS has none in its spaces of variable depth
        convolution = isinstance(module, _ConvNd)
        if any(True for _ in module.children()) or convolution:
            outputs.append((output, convolution))
        elif outputs and outputs[-1][1] and inputs and inputs[0] is outputs[-1][0]:
            outputs[-1] = (output, True)

    inside = network
    while len(only := list(inside.children())) == 1:  # a wrapper
        inside = only[0]
    hooks = [block.register_forward_hook(note) for block in _blocks(inside)]
    try:
        network(x.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return [output for output, _ in outputs]


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child) in (nn.Sequential, nn.ModuleList, nn.ModuleDict):  # a class that extends one of them is a block
            yield from _blocks(child)
        else:
            yield child


def spectral_entropy(feature: Tensor) -> float:
    """Return the entropy of the normalised eigenvalues of the covariance of channels, over images and pixels.

    Args:
        feature: (images, channels, height, width).

    Raises:
        NoValue: For a feature that is constant.
    """
    rows = feature.movedim(1, -1).flatten(0, -2).double()
    rows = rows - rows.mean(dim=0)
    values = torch.linalg.eigvalsh(rows.T @ rows).clamp(min=0)
    if not float(values.sum()) > 0:
        raise NoValue("the output of a block is the same for all images and pixels")
    shares = values / values.sum()
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def _trainability(features: Sequence[Tensor]) -> float:
    """Return the mean of 2 - s - 1 / s over blocks, s being the largest singular value of a block's mean Jacobian, which is
    estimated by sending random signs back; 0 is best, where gradients keep their size.

    Branches are no part of AZ-NAS: of two successive blocks in parallel there is no Jacobian, and they are left out.
    """
    parts = []
    for before, after in itertools.pairwise(features):
        signs = torch.empty_like(after).bernoulli_(0.5) * 2 - 1
        (sent,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
        if sent is not None:
            parts.append(2 - (s := _gain(signs, sent)) - 1 / (s + 1e-6))
    if not parts:
        raise NoValue("no block follows another")
    return float(np.mean(parts))


def _gain(signs: Tensor, sent: Tensor) -> float:
    """Return the spectral norm of the mean outer product of what went into a block's end and what came out at its beginning."""
    if signs.shape == sent.shape and torch.equal(signs, sent):
        raise NoValue("a block is the identity")  # AZ-NAS has minus infinity
    (height, width), (tall, wide) = signs.shape[2:], sent.shape[2:]
    if tall < height or wide < width:
        raise NoValue("a block enlarges its input")
    # Pixels of which one is made go side by side as channels; AZ-NAS halves even sizes only, odd ones get zeros.
    down, across = math.ceil(tall / height), math.ceil(wide / width)
    padded = functional.pad(sent, (0, across * width - wide, 0, down * height - tall))
    columns = functional.unfold(padded, (down, across), stride=(down, across))
    rows = signs.flatten(2)
    product = torch.einsum("bip,bop->io", columns, rows) / (len(rows) * rows.shape[2])
    return float(torch.linalg.svdvals(product).max())


_FUNCTIONS: tuple[tuple[tuple[str, ...], Callable[[nn.Module, Images], Mapping[str, Callable[[], float]]], bool], ...] = (
    (("synflow",), _synflow, False),
    (("jacob_cov", "naswot"), _first_pass, True),
    (("zico",), _zico, True),
    (("expressivity", "progressivity", "trainability"), _az_nas, True),
)
"""Names of scores that share their work, what computes them, and whether weights are drawn for them."""
SCORES = tuple(name for names, *_ in _FUNCTIONS for name in names)
"""Names of all scores."""


class TrainingFree:
    """Scores of the networks of a space, each at the same seeded initialisation and on the same images.

    Args:
        space: Search space of the networks.
        data: Images; the scores see training images without augmentation, and their labels.
        names: Names of the scores, of `SCORES`.
        batch: Images per batch; half of the training images where there are fewer.
        seed: Seed of weights, images and noise.
        device: torch's name of the device.

    Raises:
        InputError: For an unknown score, and for fewer than four training images.

    Example:
        >>> from paretoray import Problem
        >>> problem = Problem("digits-tiny", "digits")
        >>> score = TrainingFree(problem.space, problem.data, ["synflow", "naswot"])
        >>> score([(0, 0, 0, 0), (1, 2, 3, 4)]).shape
        (2, 2)
    """

    def __init__(
        self,
        space: SearchSpace,
        data: Dataset,
        names: Sequence[str] = SCORES,
        *,
        batch: int = BATCH,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        for name in names:
            if name not in SCORES:
                raise InputError(f"there is no training-free score {name!r}{nearest(name, SCORES)}")
        if names and (why := unscored(data)):
            raise InputError(
                f"training-free score {names[0]!r}: it differentiates by the input, which {why} do not allow; leave it out of "
                "[objectives] and front.scores"
            )
        if len(data.train) < 4 or batch < 2:
            raise InputError(
                f"training-free scores compare images of two batches: {len(data.train)} training images in batches of {batch} "
                "are too few; at least 4 in batches of 2 are needed"
            )
        self.space, self.names, self.seed, self.device = space, tuple(names), seed, device
        order = Batches(len(data.train), min(batch, len(data.train) // 2), (seed, _IMAGES))
        indices = [torch.from_numpy(order[i]) for i in range(2)]
        first, second = (data.normalise(data.train.images[i].to(device)) for i in indices)
        labels = [data.train.labels[i].to(device) for i in indices]
        noise = np.random.default_rng([seed, _NOISE]).standard_normal(tuple(first.shape), dtype=np.float32)
        self._images = Images((first, second), (labels[0], labels[1]), torch.from_numpy(noise).to(device), data.task)

    def __call__(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the scores, (architectures, names), NaN for no value; see `once_each`."""
        rows = once_each(self.space, architectures, self.names, lambda networks: [self.score(a) for a in networks])
        return np.array([[row[name] for name in self.names] for row in rows]).reshape(len(rows), len(self.names))

    def score(self, architecture: Architecture) -> Scored:
        """Score one network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, _WEIGHTS]).generate_state(1)[0]))
            network = self.space.network(architecture)
        return score_network(network.to(self.device), self._images, self.names, self.seed)


def unscored(data: Dataset) -> str:
    """Name the examples that do not allow scores, which differentiate by one input; "" where they do."""
    return "several inputs" if data.inputs else "tokens" if data.vocabulary is not None else ""


def once_each(
    space: SearchSpace,
    architectures: Sequence[Architecture],
    names: Sequence[str],
    score: Callable[[list[Architecture]], Sequence[Scored]],
) -> list[Metrics]:
    """Score equal networks once, in the first of their notations, and log a warning for each score that lacks values.

    Args:
        space: Search space of the architectures.
        architectures: Networks to score.
        names: Names of the scores.
        score: Scores different networks.
    """
    keys = [space.canonical(a) for a in architectures]
    networks: dict[Hashable, Architecture] = {}
    for key, architecture in zip(keys, architectures, strict=True):
        networks.setdefault(key, architecture)
    scored = dict(zip(networks, score(list(networks.values())), strict=True))
    for name in names:
        lacking = [key for key in networks if math.isnan(scored[key].values[name])]
        if lacking:
            log.warning(
                "training-free score %s has no value for %d of %d networks, as for %s: %s",
                name, len(lacking), len(networks), space.format(networks[lacking[0]]), scored[lacking[0]].reasons[name],
            )  # fmt: skip
    return [scored[key].values for key in keys]
