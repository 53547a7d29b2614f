import copy

import torch
from torch import nn

from ik_e3nn.training.loop.average import MovingAverage


def test_average_follows_its_formula() -> None:
    model = nn.Linear(3, 2)
    average = MovingAverage(model, decay=0.5)
    expected = model.weight.detach().clone()
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.add_(torch.randn_like(model.weight))
        average.update(model, step=step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        torch.testing.assert_close(average.model.weight, expected)
    assert not torch.allclose(average.model.weight, model.weight)


def test_the_model_is_neither_shared_nor_trained() -> None:
    model = nn.Linear(3, 2)
    average = MovingAverage(model, decay=0.9)
    before = copy.deepcopy(model.state_dict())
    average.update(model, step=1)
    average.model.weight.zero_()
    torch.testing.assert_close(model.weight.detach(), before["weight"])
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_buffers_are_copied() -> None:
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, decay=0.9)
    model(torch.randn(50, 2) + 3)
    average.copy_buffers(model)
    torch.testing.assert_close(average.model.running_mean, model.running_mean)
    assert average.model.running_mean.abs().min() > 0.1
