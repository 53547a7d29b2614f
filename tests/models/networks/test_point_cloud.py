"""The classifier of point clouds: its scores do not change under its group, shifts, and the order of points."""

import pytest
import torch

from ik_e3nn.basis import GaussianBasis, PolynomialBasis, RadialHarmonicBasis, spherical_irreps
from ik_e3nn.errors import MissingDependencyError
from ik_e3nn.graph import Pyramid
from ik_e3nn.kernels import AnalyticKernel, ImplicitKernel
from ik_e3nn.models import PointCloudClassifier
from ik_e3nn.models.networks.point_cloud import cloud_maximum
from ik_e3nn.symmetry import SymmetryGroup

pytest.importorskip("torch_cluster", reason="torch-cluster is not installed")

EXACT = {torch.float32: 1e-3, torch.float64: 1e-10}  # of scores of about one, after three convolutions
GROUPS = ("SO2", "Cinfv", "SO3", "O3", "C4", "C4v", "D4", "Dinf", "D3h", "C1")
FARTHEST = Pyramid((24, 12, 8, 4), neighbors=6, sampling="farthest")
RANDOM = Pyramid((24, 12, 8, 4), neighbors=6, sampling="random", seed=5)


def implicit(group, reach, activation="product"):
    basis = PolynomialBasis(3, sigma=reach)
    return ImplicitKernel(
        "", spherical_irreps(2, 3), group, basis=basis, batch_norm=True, depth=1, activation=activation
    )


def on_the_sphere(group, reach):
    return implicit(group, reach, "sphere")


def conditioned(group, reach):
    basis = PolynomialBasis(2, sigma=reach)
    return ImplicitKernel("2x1o", spherical_irreps(1, 3), group, basis=basis, batch_norm=True, depth=1)


def analytic(group, reach):
    return AnalyticKernel("", group, basis=RadialHarmonicBasis(GaussianBasis(2.5 * reach, 3), 2))


def classifier(group="SO2", *, kernel=implicit, pyramid=FARTHEST, dtype=torch.float64, **options):
    """A network with weights and running averages away from their first values, in evaluation mode."""
    torch.manual_seed(6)  # weights with which SO3 feels inversions well
    sizes = {"channels": 3, "l_max": 1, "scalars": 8}
    model = PointCloudClassifier(5, group, **sizes, kernel=kernel, pyramid=pyramid, **options).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    model(*clouds(dtype))
    return model.eval()


def clouds(dtype=torch.float64, sizes=(40, 33)):
    generator = torch.Generator().manual_seed(0)
    x, n = (torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64) for _ in range(2))
    x = x / 3
    n = torch.nn.functional.normalize(n, dim=1)
    return x.to(dtype), n.to(dtype), torch.repeat_interleave(torch.tensor(sizes, dtype=torch.long))


def change(model, g):
    """Largest change of scores under a matrix, over their spread."""
    x, n, batch = clouds(next(model.parameters()).dtype)
    before, after = model(x, n, batch), model(x @ g.T.to(x), n @ g.T.to(n), batch)
    return float((after - before).abs().max() / before.std())


@pytest.mark.parametrize(
    ("kernel", "dtype"), [(implicit, torch.float32), (implicit, torch.float64), (analytic, torch.float64)]
)
@pytest.mark.parametrize("group", GROUPS)
@torch.no_grad()
def test_scores_are_invariant_under_the_group_and_under_no_more(group, kernel, dtype):
    """Exactly, with the activations that are the default."""
    model = classifier(group, kernel=kernel, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for g in SymmetryGroup(group).random_elements(2, generator):
        assert change(model, g) < EXACT[dtype]
    if group != "O3":
        outside = -SymmetryGroup("SO3").random_elements(1, generator)[0]  # in no other of these groups
        assert change(model, outside) > 0.03
    if group not in ("O3", "SO3"):
        assert change(model, SymmetryGroup("SO3").random_elements(1, generator)[0]) > 0.03


@pytest.mark.parametrize("group", ["C4", "C4v", "D4", "C1", "Oh"])
@torch.no_grad()
def test_with_the_elu_scores_are_exact_for_the_symmetries_of_its_grid(group):
    model = classifier(group, kernel=on_the_sphere, activation="sphere")
    for g in SymmetryGroup(group).random_elements(3, torch.Generator().manual_seed(0)):
        assert change(model, g) < 1e-10


@pytest.mark.parametrize("group", ["SO2", "O3"])
@torch.no_grad()
def test_with_the_elu_scores_change_little_under_any_group(group):
    model = classifier(group, kernel=on_the_sphere, activation="sphere")
    changes = [change(model, g) for g in SymmetryGroup(group).random_elements(4, torch.Generator().manual_seed(0))]
    assert 1e-6 < max(changes) < 0.25, changes


@torch.no_grad()
def test_kernels_that_see_the_normals_keep_the_symmetry():
    model = classifier("SO2", kernel=conditioned)
    assert change(model, SymmetryGroup("SO2").random_elements(1, torch.Generator().manual_seed(0))[0]) < 1e-10
    x, n, batch = clouds()
    assert (model(x, n, batch) - model(x, n.flip(1), batch)).abs().max() > 1e-3


@pytest.mark.parametrize("kernel", [implicit, conditioned])
@torch.no_grad()
def test_the_order_of_the_points_and_where_the_cloud_is_do_not_matter(kernel):
    """Which is also why kernels see the normals of the ends of their own edges."""
    model, (x, n, batch) = classifier(kernel=kernel), clouds()
    scores = model(x, n, batch)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    order = order[torch.argsort(batch[order], stable=True)]
    torch.testing.assert_close(model(x[order], n[order], batch), scores, atol=1e-10, rtol=0)
    torch.testing.assert_close(model(x + torch.tensor([1.0, -2.0, 0.5]), n, batch), scores, atol=1e-10, rtol=0)
    assert (model(2 * x, n, batch) - scores).abs().max() > 1e-3  # the unit of length does


@pytest.mark.parametrize("pyramid", [FARTHEST, RANDOM], ids=["farthest", "random"])
@torch.no_grad()
def test_a_cloud_is_treated_alike_alone_and_in_a_batch(pyramid):
    model, (x, n, batch) = classifier(pyramid=pyramid), clouds()
    scores = model(x, n, batch)
    assert torch.equal(model(x, n, batch), scores)
    second = batch == 1
    torch.testing.assert_close(model(x[second], n[second]), scores[1:], atol=1e-10, rtol=0)


@torch.no_grad()
def test_random_downsampling_is_by_the_seed_in_evaluation_and_new_in_training():
    (x, n, batch), model = clouds(), classifier("SO2", pyramid=RANDOM)
    g = SymmetryGroup("SO2").random_elements(1, torch.Generator().manual_seed(0))[0]
    assert change(model, g) < 1e-10
    other = classifier("SO2", pyramid=Pyramid((24, 12, 8, 4), neighbors=6, seed=6))
    other.load_state_dict(model.state_dict())
    assert (other(x, n, batch) - model(x, n, batch)).abs().max() > 1e-4
    model.train()
    assert not torch.equal(model(x, n, batch), model(x, n, batch))


@pytest.mark.parametrize("sizes", [(1,), (3, 2), (1, 40), (5, 0, 7)])
def test_tiny_clouds_have_scores_and_gradients(sizes):
    x, n, batch = clouds(sizes=sizes)
    x.requires_grad_()
    for training in (False, True):
        model = classifier().train(training)
        scores = model(x, n, batch, num_clouds=len(sizes))
        assert scores.shape == (len(sizes), 5)
        assert scores.isfinite().all()
        (gradient,) = torch.autograd.grad(scores.square().sum(), x)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_no_points_at_all(training):
    x, n, batch = clouds(sizes=())
    model = classifier().train(training)
    assert model(x, n, batch).shape == (0, 5)
    scores = model(x, n, batch, num_clouds=2)
    assert scores.shape == (2, 5)
    assert scores.isfinite().all()


def test_the_maximum_is_over_the_points_of_each_cloud():
    x, _, batch = clouds(sizes=(4, 0, 9))
    expected = torch.stack([x[batch == 0].amax(0), torch.zeros(3, dtype=x.dtype), x[batch == 2].amax(0)])
    assert torch.equal(cloud_maximum(x, batch, 3), expected)


def test_it_learns_to_tell_up_from_down_only_without_that_symmetry():
    """Half spheres, each also turned upside down: what is invariant under this turn is no better than chance."""
    x = torch.randn(4, 30, 3, generator=torch.Generator().manual_seed(0))
    x[..., 2] = x[..., 2].abs()
    x = torch.nn.functional.normalize(x, dim=2)
    x = torch.stack([x, x * torch.tensor([1.0, -1.0, -1.0])]).flatten(0, 2)
    labels, batch = torch.tensor([0, 1]).repeat_interleave(4), torch.arange(8).repeat_interleave(30)
    losses = {}
    for group in ("SO2", "D4"):
        torch.manual_seed(0)
        model = PointCloudClassifier(2, group, channels=3, l_max=1, scalars=8, kernel=implicit, pyramid=FARTHEST)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(15):
            loss = torch.nn.functional.cross_entropy(model(x, x, batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[group] = loss.item()
    assert losses["SO2"] < 0.2
    assert losses["D4"] > 0.69  # log 2


def test_what_does_not_fit_is_named():
    x, n, batch = clouds()
    model = classifier()
    with pytest.raises(ValueError, match=r"features of type 1x1o must have shape \(73, 3\), one row per point; got"):
        model(x, n[:, :2], batch)
    with pytest.raises(ValueError, match=r"positions of point clouds must have shape \(N, 3\)"):
        model(x[:, :2], n, batch)
    with pytest.raises(ValueError, match="features of point clouds must be finite"):
        model(x, torch.full_like(n, float("nan")), batch)
    with pytest.raises(ValueError, match="batch must be int64 numbers of clouds, ascending"):
        model(x, n, batch.flip(0))
    with pytest.raises(ValueError, match="each of the 3 convolutions but the last, 3 in all"):
        PointCloudClassifier(5, channels=(3, 3), pyramid=FARTHEST)
    for name in ("num_classes", "scalars", "channels"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
            PointCloudClassifier(**{"num_classes": 5, "pyramid": FARTHEST, name: 0})
    with pytest.raises(ValueError, match="l_max must be at least 0; got -1"):
        PointCloudClassifier(5, l_max=-1, pyramid=FARTHEST)
    with pytest.raises(ValueError, match="batch has 2 clouds, but num_clouds is 1"):
        model(x, n, batch, num_clouds=1)
    with pytest.raises(ValueError, match="batch has 1 clouds, but num_clouds is 0"):
        model(x, n, num_clouds=0)
    with pytest.raises(
        ValueError, match="must be the input features of both ends, 1x0e.1x1o.1x0e.1x1o, or nothing; got 2x1o"
    ):
        PointCloudClassifier(5, irreps_in="0e + 1o", pyramid=FARTHEST, channels=2, kernel=conditioned)


def test_without_torch_cluster_the_error_says_how_to_get_it(monkeypatch):
    model = classifier()
    monkeypatch.setitem(__import__("sys").modules, "torch_cluster", None)
    with pytest.raises(MissingDependencyError, match="need torch-cluster"):
        model(*clouds())
