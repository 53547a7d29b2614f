import copy

import pytest
import torch
from ase.build import molecule

from ik_e3nn.graph import build_graph
from ik_e3nn.models import InteratomicPotential
from ik_e3nn.nn import EquivariantLinear, EquivariantMLP, LowRankUpdate, add_lora, lora_layers, merge_lora
from ik_e3nn.testing import assert_equivariant

TYPES = "6x0e + 5x1o + 4x2e"


def changed(linear: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in linear.named_parameters():
            if ".up." in name:
                parameter.normal_()


@pytest.mark.parametrize("group", ["O3", "SO3", "SO2", "C4v", "Td"])
def test_an_updated_layer_is_equivariant_of_low_rank_and_merges(group: str) -> None:
    linear = EquivariantLinear(TYPES, TYPES, group).double()
    x = torch.randn(7, linear.dim_in, dtype=torch.float64)
    before, weight = linear(x), linear.weight.detach().clone()
    add_lora(linear, 2)
    assert torch.equal(linear(x), before)
    changed(linear)
    after = linear(x)
    assert (after - before).abs().max() > 0.1
    matrices = (linear.weight - weight).detach().split([m * n for m, n in linear.weight_shapes()])
    shapes = linear.weight_shapes()
    assert sum(m * n for m, n in shapes) == weight.numel()
    ranks = [int(torch.linalg.matrix_rank(w.view(s), rtol=1e-9)) for w, s in zip(matrices, shapes, strict=True)]
    assert set(ranks) == {2}
    assert_equivariant(linear, group=group)
    merge_lora(linear)
    assert [name for name, _ in linear.named_parameters()] == ["weight"]
    torch.testing.assert_close(linear(x), after, rtol=0, atol=1e-12)


def test_all_equivariant_linear_layers_of_a_potential_are_updated() -> None:
    model = InteratomicPotential(["H", "O"], num_channels=4).double().eval()
    names = set(model.state_dict())
    graph = build_graph(molecule("H2O"), model.r_max, dtype=torch.float64)
    before = model(graph)["energy"]
    add_lora(model.interactions, 1)
    expected = {"1.conv.linear", "1.kernel.mlp", "1.product.factors", "1.skip", "1.up"}
    assert expected <= set(lora_layers(model.interactions))
    assert torch.equal(model(graph)["energy"], before)
    changed(model)
    after = model(graph)
    assert (after["energy"] - before).abs() > 1e-3
    turned = molecule("H2O")
    turned.rotate(70, (1, 2, 3))
    other = model(build_graph(turned, model.r_max, dtype=torch.float64))
    torch.testing.assert_close(other["energy"], after["energy"], rtol=1e-9, atol=1e-12)
    merge_lora(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(graph)["forces"], after["forces"], rtol=1e-9, atol=1e-12)


def test_updates_alone_are_trained() -> None:
    mlp = EquivariantMLP("4x0e + 4x1o", "8x0e + 8x1o", "2x0e")
    add_lora(mlp, 2)
    trained = {name for name, p in mlp.named_parameters() if p.requires_grad}
    assert trained
    assert all("parametrizations.weight.0." in name or name.endswith("bias.weight") for name in trained)
    assert lora_layers(mlp) == {"hidden_layers.0.0": 2, "last": 2}
    twin = copy.deepcopy(mlp)
    changed(twin)
    x = torch.randn(3, 16)
    assert not torch.equal(twin(x), mlp(x))
    mlp(x).sum().backward()
    assert all(p.grad is None for p in mlp.parameters() if not p.requires_grad)


def test_an_update_changes_the_weights_as_fast_as_their_own_steps_would() -> None:
    """A step of size s of every entry of B changes the weights by a root mean square of s."""
    update = LowRankUpdate([(200, 100)], 16, like=torch.zeros(1, dtype=torch.float64))
    with torch.no_grad():
        update.up[0].add_(0.01 * torch.randint(0, 2, update.up[0].shape).mul(2).sub(1))
    change = update(torch.zeros(20000, dtype=torch.float64))
    assert float(change.detach().square().mean().sqrt()) == pytest.approx(0.01, rel=0.1)


def test_a_small_side_bounds_the_rank() -> None:
    update = LowRankUpdate([(3, 8), (8, 8)], 5, like=torch.zeros(1))
    assert [A.shape[1] for A in update.down] == [3, 5]
    with pytest.raises(ValueError, match="the rank of an update must be at least 1; got 0"):
        LowRankUpdate([(3, 8)], 0, like=torch.zeros(1))
