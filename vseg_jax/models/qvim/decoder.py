"""The multi-scale decoder (Section 3.2)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vseg_jax.layers.convolution import he_normal
from vseg_jax.layers.normalization import BatchNorm
from vseg_jax.layers.resize import bilinear
from vseg_jax.models.qvim.config import SCALES, QvimConfig


class Decoder(nn.Module):
    """Coarse to fine, with a response map at every scale (Section 3.2; the layers are CSTM's).

    F_5 = V_5; F_k = ConvBNReLU3x3([up(F_{k+1}); V_k]); s_k = conv3x3, conv3x3, conv1x1 of F_k.

    The paper's "average-pooling and fully convolutional layer" may be the temporal mean, which its
    predecessors take before such layers, or a spatial one: `response_pool` averages the F_k that
    the response heads read over 3x3 cells, which keeps the size of the map (inferred).
    """

    config: QvimConfig

    @nn.compact
    def __call__(
        self,
        features: tuple[Float[Array, "B _ _ C"], ...],
        size: tuple[int, int],
        *,
        train: bool,
    ) -> tuple[Float[Array, "B H W"], tuple[Float[Array, "B _ _"], ...]]:
        """Returns the predicted logits at `size`, and the maps of all scales, largest first."""
        c = self.config
        dtype = jnp.dtype(c.dtype)

        def conv(width: int, name: str, bias: bool = True) -> nn.Conv:
            return nn.Conv(
                width, (3, 3), use_bias=bias, dtype=dtype, kernel_init=he_normal, name=name
            )

        responses: list[jax.Array] = []
        x = None
        for k in range(SCALES, 0, -1):
            width, here = c.decoder_channels[k - 1], features[k - 1]
            if x is None:
                x = here
            else:
                above = bilinear(x, here.shape[1:3], align_corners=c.align_corners)
                x = conv(width, f"conv_{k}", bias=False)(jnp.concatenate([above, here], axis=-1))
                x = nn.relu(BatchNorm("batch", dtype=dtype, name=f"norm_{k}")(x, train=train))
            head = average_3x3(x) if c.response_pool else x
            head = nn.relu(conv(width, f"head_{k}_a")(head))
            head = nn.relu(conv(width, f"head_{k}_b")(head))
            response = nn.Dense(1, dtype=dtype, name=f"head_{k}_c")(head)
            responses.insert(0, response.astype(jnp.float32))
        finest = responses[0].shape[1:3]
        if c.fuse == "conv":
            stack = [bilinear(r, finest, align_corners=c.align_corners) for r in responses]
            fused = conv(1, "fuse")(jnp.concatenate(stack, axis=-1)).astype(jnp.float32)
            responses.append(fused)
        prediction = responses[-1] if c.fuse == "conv" else responses[0]
        logits = bilinear(prediction, size, align_corners=False)[..., 0]
        return logits, tuple(r[..., 0] for r in responses)


def average_3x3(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Averages every cell with its neighbors; cells outside the map do not count."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)
