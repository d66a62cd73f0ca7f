"""Compares our optimizers with PyTorch's over steps: groups, weight decay, clipping."""

import jax.numpy as jnp
import numpy as np
import pytest

from vseg_jax.training import optimizer as optim
from vseg_jax.training.settings import TrainConfig

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_ten_steps_with_groups_decay_and_clipping(name, clip):
    rng = np.random.default_rng(0)
    start = {k: rng.normal(size=(4, 3)).astype(np.float32) for k in ("slow", "fast", "frozen")}
    gradients = [{k: rng.normal(size=(4, 3)).astype(np.float32) for k in ("slow", "fast")}
                 for _ in range(10)]

    config = TrainConfig(steps=10, optimizer=name, learning_rate=0.05, weight_decay=0.02,
                         clip_norm=clip, groups=(("slow", 0.1), ("frozen", 0.0)),
                         schedule="steps", milestones=(6,))
    trained, frozen = optim.split({k: jnp.asarray(v) for k, v in start.items()}, config)
    optimizer = optim.make(config)
    state = optimizer.init(trained)
    for gradient in gradients:
        updates, state = optimizer.update(
            {k: jnp.asarray(v) for k, v in gradient.items()}, state, trained, value=0.0)
        trained = {k: trained[k] + updates[k] for k in trained}

    theirs = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in start.items() if k != "frozen"}
    groups = [{"params": [theirs["slow"]], "lr": 0.005}, {"params": [theirs["fast"]], "lr": 0.05}]
    extra = dict(momentum=0.9) if name == "sgd" else {}
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    other = kind(groups, lr=0.05, weight_decay=0.02, **extra)
    schedule = torch.optim.lr_scheduler.MultiStepLR(other, [6], 0.1)
    for gradient in gradients:
        for key, parameter in theirs.items():
            parameter.grad = torch.tensor(gradient[key])
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        other.step()
        schedule.step()

    assert set(frozen) == {"frozen"}
    for key, parameter in theirs.items():
        np.testing.assert_allclose(trained[key], parameter.detach().numpy(), rtol=2e-4, atol=1e-5,
                                   err_msg=key)
