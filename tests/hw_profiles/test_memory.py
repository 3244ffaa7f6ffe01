import torch
from torch import nn

from hw_profiles.memory import peak_memory


def held(network: nn.Module, x: torch.Tensor) -> int:
    return 4 * (sum(p.numel() for p in network.parameters()) + sum(b.numel() for b in network.buffers()) + x.numel())


def test_inference_peak_is_the_input_and_output_of_an_operation() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1), nn.ReLU())
    x = torch.randn(4, 3, 32, 32)
    plane = 4 * 4 * 32 * 32  # bytes of a channel
    assert peak_memory(network, x) - held(network, x) == (16 + 16) * plane


def test_tensors_alive_at_once_add_up() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branches = [x + i for i in range(5)]
            return torch.stack(branches).sum(0)

    x = torch.randn(1, 1, 512, 512)
    assert peak_memory(Branches(), x) == x.nbytes * (1 + 5 + 5 + 1)  # input, branches, their stack, the sum


def test_views_and_in_place_operations_cost_nothing() -> None:
    network = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Unflatten(1, (1, 512, 512)))
    x = torch.randn(1, 1, 512, 512)
    assert peak_memory(network, x) == x.nbytes


def test_training_keeps_activations_and_gradients() -> None:
    depth = 6
    network = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(depth)))
    x = torch.randn(2, 8, 64, 64)
    inference, training = (peak_memory(network, x, training=t) for t in (False, True))
    assert inference - held(network, x) == 3 * x.nbytes  # a block's input lives until the block ends
    assert training - held(network, x) >= depth * x.nbytes  # the output of each block, until the backward pass
    assert all(p.grad is None for p in network.parameters()) and network.training


def test_measurements_are_repeatable() -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3))
    x = torch.randn(2, 3, 32, 32)
    assert len({peak_memory(network, x, training=t) for t in (True, True, True)}) == 1
    assert len({peak_memory(network, x) for _ in range(3)}) == 1
