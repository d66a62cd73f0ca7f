"""Training steps and streaming steps of the papers' size can be lowered for GPUs and TPUs.

Lowering needs no such device. It fails where an operation has no implementation for a platform;
what the platform's own compiler does afterwards is not tested.
"""

import json
from pathlib import Path

import eight_devices
import pytest

ROOT = Path(__file__).parents[1]
PLATFORMS = ("cuda", "tpu")
READ = """
import json, sys
from benchmarks import programs
from vseg_jax.experiment.build import read

name, overrides, platforms = json.loads(sys.argv[1])
"""
TRAINING = READ + """
found = []
for mesh in ({"train.model_parallel": "1"},
             {"train.model_parallel": "2", "train.sharding": "fsdp"}):
    settings = read(name, {"model.dtype": "bfloat16", "train.batch_size": "8", **overrides, **mesh})
    setup = programs.training(settings)
    step = setup.jit_step().trace(setup.sharded_shapes(), setup.batch_shapes)
    for platform in platforms:
        text = step.lower(lowering_platforms=(platform,)).as_text()
        donated = text.count("tf.aliasing_output") + text.count("jax.buffer_donor")
        found.append([donated, "bf16" in text])
print(json.dumps(found))
"""
STREAMING = READ + """
from vseg_jax.export.export import of_streams

restored = programs.restored(read(name, overrides))
_, exported = of_streams(restored, tuple(platforms))
print(json.dumps(sorted(exported)))
"""
SLOW = pytest.mark.slow
MODELS = pytest.mark.parametrize(("name", "overrides"), [
    ("swiftnet:stage2", {}),
    pytest.param("swiftnet:stage2", {"model.network": "stm"}, marks=SLOW),
    ("cvls:a2d", {}),
    pytest.param("mmvt:a2d", {}, marks=SLOW),
    pytest.param("qvim:a2d", {}, marks=SLOW),
    pytest.param("rcf:youtube_vis", {}, marks=SLOW),
    pytest.param("rcf:youtube_vis_swin", {}, marks=SLOW),
])


def run(code, name, overrides):
    return eight_devices.run(code, ROOT, json.dumps([name, overrides, PLATFORMS]))


@MODELS
def test_training_steps(name, overrides):
    """In bfloat16, with a donated state, on 8x1 devices and, fully sharded, on 4x2."""
    found = run(TRAINING, name, overrides)
    assert len(found) == 2 * len(PLATFORMS)
    for donated, mixed in found:
        assert donated > 100 and mixed


@MODELS
def test_streaming_steps(name, overrides):
    """For a symbolic number of streams, as they are exported."""
    assert "step" in run(STREAMING, name, overrides)
