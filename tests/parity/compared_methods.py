"""The methods that qvim is compared with, on fixed inputs and draws: public code and ours.

Folder under the references -> repository, commit:
  mixstyle-release  KaiyangZhou/mixstyle-release  16f7cf1fe2c7b1b3c660c72b32817ebb0545397a
  DSU               lixiaotong97/DSU              82a1de036351b72620abef1a9c4cc561751264a2
  pytorch-AdaIN     naoto0804/pytorch-AdaIN       47950d0e6656a95a80a4b105c4c0f58d38ef785c
  RobustNet         shachoi/RobustNet             1ff5c047d7abaf9ab1a7cca23aff812b2f09de15
SFA has no public code that we know of.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import seeded

from vseg_jax.models.qvim import styles, whitening

X = 2 * seeded.inputs("features", (4, 5, 6, 3)) + seeded.inputs("styles", (4, 1, 1, 3))
WEIGHT = seeded.inputs("weight", X.shape)  # of the outputs, where gradients are taken
OTHER = np.array([2, 3, 1, 0])
SHARE = np.array([0.03, 0.9, 0.5, 1.0], np.float32)
NOISES = seeded.inputs("mean noise", (4, 3)), seeded.inputs("deviation noise", (4, 3))

CHANNELS, CLUSTERS, RELAX = 8, 3, 2.0
# Two trials of three pairs (changed, original), and what is whitened afterwards.
PAIRS = seeded.inputs("pairs", (2, 3, 2, 5, 6, CHANNELS))
PAIRS[:, :, 0, ..., ::3] += PAIRS[:, :, 0, ..., 1:2]  # a change that moves some covariances
MAPS = seeded.inputs("maps", (3, 5, 6, CHANNELS)) + seeded.inputs("common", (3, 5, 6, 1))
VALUES = np.abs(seeded.inputs("values", (300,))) ** 3


def ours() -> dict[str, np.ndarray]:
    """Returns name -> result of our code, with the names of `public`."""
    everywhere, other, share = jnp.ones(4, bool), jnp.asarray(OTHER), jnp.asarray(SHARE)
    results = {}
    for name, method in {
        "adain": lambda x: styles.adain(x, other),
        "mixstyle": lambda x: styles.mixstyle(x, other, share),
        "dsu": lambda x: styles.dsu(x, *map(jnp.asarray, NOISES), everywhere),
        "in": whitening.instance_norm,
    }.items():
        out, pull = jax.vjp(method, jnp.asarray(X))
        results |= {name: out, f"{name}, gradient": pull(jnp.asarray(WEIGHT))[0]}

    masks = []
    for trial in PAIRS:
        changed, original = (whitening.instance_norm(jnp.asarray(trial[:, i])) for i in (0, 1))
        variance = whitening.sensitivity(changed, original).mean(0)
        masks.append(whitening.sensitive(variance, CLUSTERS))
    mask = masks[0] & masks[1]
    everything = jnp.asarray(whitening.upper(CHANNELS))
    margin = whitening.relaxed_margin(CHANNELS, RELAX)

    def loss(maps, *how):
        return whitening.whitening_loss(
            whitening.covariance(whitening.instance_norm(maps)), *how
        ).mean()

    for name, how in {"isw": (mask,), "irw": (everything, margin), "iw": (everything,)}.items():
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(MAPS), *how)
        results |= {name: value, f"{name}, gradient": gradient}
    results |= {"mask": mask, "first mask": masks[0]}
    results |= {f"{k} means": whitening.kmeans(VALUES, k) for k in (1, 2, 3, 50)}
    return {name: np.asarray(value) for name, value in results.items()}


def public(root: Path) -> dict[str, np.ndarray]:
    """Returns name -> result of the public code, in double precision."""
    import torch

    x, weight = (torch.from_numpy(np.moveaxis(a, -1, 1).copy()).double() for a in (X, WEIGHT))
    results = {}

    def run(name, method):
        given = x.clone().requires_grad_()
        out = method(given)
        (out * weight).sum().backward()
        results[name] = out.detach().movedim(1, -1).numpy()
        results[f"{name}, gradient"] = given.grad.movedim(1, -1).numpy()

    adain = _load(root / "pytorch-AdaIN/function.py").adaptive_instance_normalization
    run("adain", lambda x: adain(x, x[OTHER]))

    mixstyle = _load(root / "mixstyle-release/reid/models/mixstyle.py").MixStyle(p=1.0).train()
    mixstyle.beta = mock.Mock()
    mixstyle.beta.sample.return_value = torch.from_numpy(SHARE).double().view(4, 1, 1, 1)
    with mock.patch("torch.randperm", return_value=torch.from_numpy(OTHER)):
        run("mixstyle", mixstyle)

    dsu = _load(root / "DSU/dsu.py").DistributionUncertainty(p=1.0).train()
    noises = [torch.from_numpy(n).double() for n in NOISES]
    with mock.patch("torch.randn_like", side_effect=noises):
        run("dsu", dsu)

    with _robustnet(root) as (layers, settings):
        run("in", lambda x: layers.InstanceWhitening(3)(x)[1])
        results |= _public_whitening(layers, settings)
    import kmeans1d

    for k in (1, 2, 3, 50):
        results[f"{k} means"] = np.array(kmeans1d.cluster(VALUES, k).clusters)
    return results


def _public_whitening(layers, settings) -> dict[str, np.ndarray]:
    """Runs the two modules as deepv3.py does, on maps instead of images."""
    import torch

    def normalized(maps):
        maps = torch.from_numpy(np.moveaxis(maps, -1, 1).copy()).double()
        return layers.InstanceWhitening(CHANNELS)(maps)[1]

    isw = settings.CovMatrix_ISW(CHANNELS, relax_denom=0, clusters=CLUSTERS)
    isw.i, isw.reversal_i = isw.i.double(), isw.reversal_i.double()
    results = {}
    for trial in PAIRS:
        for pair in trial:
            eye, reverse_eye = isw.get_eye_matrix()
            correlations, _ = layers.get_covariance_matrix(normalized(pair), eye=eye)
            isw.set_variance_of_covariance(torch.var(correlations * reverse_eye, dim=0))
        isw.set_mask_matrix()
        results.setdefault("first mask", isw.mask_matrix.numpy().astype(bool))
    results["mask"] = isw.mask_matrix.numpy().astype(bool)
    for name, how in {
        "isw": isw.get_mask_matrix(),
        "irw": settings.CovMatrix_IRW(CHANNELS, relax_denom=RELAX).get_mask_matrix(),
        "iw": settings.CovMatrix_IRW(CHANNELS, relax_denom=0).get_mask_matrix(),
    }.items():
        maps = torch.from_numpy(np.moveaxis(MAPS, -1, 1).copy()).double().requires_grad_()
        loss = layers.instance_whitening_loss(layers.InstanceWhitening(CHANNELS)(maps)[1], *how)
        loss.sum().backward()
        results[name] = loss.detach().numpy().squeeze()
        results[f"{name}, gradient"] = maps.grad.movedim(1, -1).numpy()
    return results


@contextlib.contextmanager
def _robustnet(root: Path):
    """Loads RobustNet's two modules, on the CPU."""
    import torch

    names = {name: ModuleType(name) for name in ("network", "network.mynn")}
    names["network.mynn"].initialize_embedding = None
    with (
        mock.patch.dict(sys.modules, names),
        mock.patch.object(torch.Tensor, "cuda", lambda self: self),
        mock.patch("torch.cuda.current_device", return_value=0),
        contextlib.redirect_stdout(None),
    ):
        folder = root / "RobustNet/network"
        yield _load(folder / "instance_whitening.py"), _load(folder / "cov_settings.py")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reference_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
