"""A PyTorch port of models/cvls, for comparison.

Written for this project from vseg_jax/models/cvls, in plain PyTorch (channels first). It covers
the default `CvlsConfig`, with ResNet-50 or -101. Modules have the names of the JAX parameters, so
that `copy` can transfer weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.qvim_torch import coordinates, flat, layout
from vseg_jax.backbones.resnet import BLOCKS
from vseg_jax.layers.normalization import IMAGENET
from vseg_jax.models.cvls.config import LEVELS, CvlsConfig
from vseg_jax.models.cvls.filter import LEAKY_SLOPE

BUILT = {
    "backbone_norm": "batch", "sem": True, "fpn": True, "fpn_upsample": "bilinear",
    "text_attention": "tanh", "normalize": True, "lcf": True, "ccl": True, "rhic": True,
    "rhic_wrong_only": False, "pos_weight": 1.0, "dtype": "float32",
}


class Block(nn.Module):
    def __init__(self, into: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.conv1, self.norm1 = nn.Conv2d(into, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.skip = into != out
        if self.skip:
            self.skip_conv = nn.Conv2d(into, out, 1, stride, bias=False)
            self.skip_norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip_norm(self.skip_conv(x)) if self.skip else x
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        return F.relu(self.norm3(self.conv3(x)) + skip, inplace=True)


class ResNet(nn.Module):
    def __init__(self, depth: int, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.stages, into = [], width
        for stage, count in enumerate(BLOCKS[depth]):
            self.stages.append([f"layer{stage + 1}_{i}" for i in range(count)])
            for i, name in enumerate(self.stages[-1]):
                block = Block(into, width * 2**stage, 2 if stage and not i else 1)
                self.add_module(name, block)
                into = 4 * width * 2**stage

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x, maps = F.max_pool2d(x, 3, 2, 1), []
        for names in self.stages:
            for name in names:
                x = self._modules[name](x)
            maps.append(x)
        return maps


class Text(nn.Module):
    def __init__(self, c: CvlsConfig):
        super().__init__()
        self.embedding = nn.ModuleDict({"words": nn.Embedding(c.vocabulary, c.word_width)})
        self.lstm = nn.LSTM(c.word_width, c.lstm_width, batch_first=True, bidirectional=True)
        both = 2 * c.lstm_width
        self.attention = nn.ModuleDict({
            "hidden": nn.Linear(both, both), "score": nn.Linear(both, 1, bias=False)
        })
        self.project = nn.Linear(both, c.channels)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding["words"](tokens.long()), valid.sum(1).cpu(), batch_first=True,
            enforce_sorted=False,
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.lstm(packed)[0], batch_first=True, total_length=tokens.shape[1]
        )
        scores = self.attention["score"](torch.tanh(self.attention["hidden"](states)))[..., 0]
        weights = scores.masked_fill(~valid, -torch.inf).softmax(-1)
        return self.project(torch.einsum("bl,bld->bd", weights, states))


class Pyramid(nn.Module):
    def __init__(self, c: CvlsConfig):
        super().__init__()
        for i in range(LEVELS):
            level = nn.Conv2d(4 * c.resnet_width * 2**i + 8, c.channels, 1)
            self.add_module(f"sem_{i + 1}", level)
        self.join = nn.Conv2d(LEVELS * c.channels, c.channels, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        levels = []
        for i, x in enumerate(maps):
            feature = coordinates(*x.shape[2:]).to(x).expand(len(x), -1, -1, -1)
            levels.append(self._modules[f"sem_{i + 1}"](torch.cat([x, feature], 1)))
        for i in reversed(range(LEVELS - 1)):
            levels[i] = levels[i] + resize(levels[i + 1], levels[i].shape[2:])
        size = levels[0].shape[2:]
        return self.join(torch.cat([levels[0], *(resize(x, size) for x in levels[1:])], 1))


class Decoder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fuse, self.logit = nn.Conv2d(2 * width, width, 1), nn.Conv2d(width, 1, 1)
        self.conv_1, self.conv_2, self.conv_3 = (
            nn.Conv2d(width, width, 3, padding=1) for _ in range(3)
        )

    def forward(self, features: Tensor, sentence: Tensor) -> Tensor:
        everywhere = sentence[..., None, None].expand_as(features)
        x = self.fuse(torch.cat([features, everywhere], 1))
        for conv in (self.conv_1, self.conv_2, self.conv_3, self.logit):
            x = conv(F.relu(x, inplace=True))
        return x


class Cvls(nn.Module):
    def __init__(self, config: CvlsConfig):
        super().__init__()
        c = self.config = config
        for key, built in BUILT.items():
            if getattr(c, key) != built:
                raise ValueError(f"{key} is {getattr(c, key)!r}; the port supports only {built!r}")
        depth = int(c.backbone.removeprefix("resnet"))
        self.visual = nn.ModuleDict({"resnet": ResNet(depth, c.resnet_width)})
        self.text, self.pyramid, self.decoder = Text(c), Pyramid(c), Decoder(c.channels)
        inner = c.channels // c.lcf_reduction
        self.filter = nn.ModuleDict({
            "squeeze": nn.Linear(c.channels, inner), "excite": nn.Linear(inner, c.channels)
        })
        self.contrast = nn.ModuleDict({name: nn.ModuleDict({
            "hidden": nn.Linear(c.channels, c.projection_hidden),
            "out": nn.Linear(c.projection_hidden, c.projection_dim),
        }) for name in ("visual", "language")})

    def forward(self, frames: Tensor, tokens: Tensor, valid: Tensor) -> tuple[Tensor, ...]:
        """Maps frames [B, T, H, W, 3] to logits [B T, H, W] and [B T, h, w], F and l."""
        mean, deviation = (torch.tensor(x) for x in IMAGENET)
        x = ((frames.flatten(0, 1).float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
        sentence = scaled(self.text(tokens, valid), 1)
        gate = self.filter["squeeze"](sentence)
        gate = self.filter["excite"](F.leaky_relu(gate, LEAKY_SLOPE)).sigmoid()
        times = frames.shape[1]
        features = scaled(self.pyramid(self.visual["resnet"](x)), 1)
        features = features * gate.repeat_interleave(times, 0)[..., None, None]
        coarse = self.decoder(features, sentence.repeat_interleave(times, 0))
        return resize(coarse, frames.shape[2:4])[:, 0], coarse[:, 0], features, sentence

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Computes (1 - lambda) L_seg + lambda L_ccl of a batch of valid samples."""
        c = self.config
        logits, coarse, features, sentence = self(*(
            batch[k] for k in ("frames", "tokens", "tokens_valid")
        ))
        index = batch["masks"]
        counts = (index != 255) & batch["masks_valid"][..., None, None]
        mask = (index == batch["object_id"][:, None, None, None]) & counts
        mask, counts = (x.flatten(0, 1).float() for x in (mask, counts))
        each = F.binary_cross_entropy_with_logits(logits, mask, counts, reduction="none")
        each = each.sum((1, 2)) / counts.sum((1, 2)).clamp_min(1)
        seen = counts.sum((1, 2)) > 0
        rest = torch.where(counts > mask, index.flatten(0, 1), 255)[:, None]
        others = (rest == torch.arange(c.max_objects + 1)[:, None, None]).float()
        cover, known = (
            F.interpolate(x, coarse.shape[1:], mode="area")
            for x in (torch.cat([mask[:, None], others], 1), counts[:, None])
        )
        truth = cover[:, :1] / torch.where(known > 0, known, 1)
        degree = (truth - coarse.detach()[:, None].sigmoid()).abs()
        cover = hardest(cover, degree, c.hard_share)
        area = cover.sum((2, 3))
        pooled = torch.einsum("bchw,brhw->brc", features, cover)
        pooled = pooled / torch.where(area > 0, area, 1)[..., None]
        objects, queries = (
            F.normalize(head["out"](F.relu(head["hidden"](x))), dim=-1, eps=1e-6)
            for head, x in zip(self.contrast.values(), (pooled, sentence), strict=True)
        )
        shape = len(index), -1, area.shape[1]
        contrast = info_nce(
            queries, objects.view(*shape, c.projection_dim), (area > 0).view(shape), c.tau
        )
        return (1 - c.lambda_ccl) * each[seen].mean() + c.lambda_ccl * contrast


def scaled(x: Tensor, axis: int) -> Tensor:
    """Divides by the root mean square over the channels, as Flax's RMSNorm without a scale."""
    return x * (x.square().mean(axis, keepdim=True) + 1e-6).rsqrt()


def hardest(cover: Tensor, degree: Tensor, share: float) -> Tensor:
    """Keeps each region's cells of the largest degree, the first ones among equals (RHIC)."""
    worth = torch.where(cover > 0, degree * cover, -torch.inf).flatten(2)
    keep = (share * cover.sum((2, 3)) - 1e-3).ceil().clamp_min(1).long()[..., None]
    least = worth.sort(-1, descending=True).values.gather(-1, keep - 1)
    above, equal = worth > least, worth == least
    room = keep - above.sum(-1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(-1) <= room))
    return torch.where(chosen.view_as(cover), cover, 0)


def info_nce(queries: Tensor, objects: Tensor, there: Tensor, tau: float) -> Tensor:
    """Contrasts queries [B, D] with instances [B, T, R, D]; the first of the R is the referent."""
    scores = torch.einsum("bd,btrd->btr", queries, objects) / tau
    positive, seen = scores[:, :, 0], there[:, :, 0]
    negative = scores[:, :, 1:].masked_fill(~there[:, :, 1:], -torch.inf).flatten(1)
    negative = negative[:, None].expand(-1, positive.shape[1], -1)
    each = torch.cat([positive[..., None], negative], -1).logsumexp(-1) - positive
    each = torch.where(seen, each, 0).sum(1) / seen.sum(1).clamp_min(1)
    return each[seen.any(1)].mean()


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def copy(port: Cvls, variables: dict[str, Any]) -> None:
    """Copies our weights and running statistics into the port."""
    left, state = dict(flat(variables)), port.state_dict()
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            path = _path(name)
            ours = layout(np.asarray(left.pop(path)), path, tuple(value.shape))
            state[name] = torch.from_numpy(ours.copy())
    if left:
        raise ValueError(f"the port has no place for {', '.join(left)}")
    port.load_state_dict(state)


def _path(name: str) -> str:
    """Returns our path for a name of the port's state."""
    *modules, leaf = name.split(".")
    if leaf.startswith("running_"):
        return "/".join(["batch_stats", *modules, leaf.removeprefix("running_")])
    if modules[-1] == "lstm":
        modules.append("backward" if leaf.endswith("_reverse") else "forward")
        kind, place = leaf.split("_")[:2]
        leaf = {"ih": "input", "hh": "hidden"}[place] + "_" + {"weight": "kernel"}.get(kind, kind)
    elif leaf == "weight":
        leaf = "scale" if "norm" in modules[-1] else "kernel"
        leaf = "embedding" if modules[-1] == "words" else leaf
    return "/".join(["params", *modules, leaf])
