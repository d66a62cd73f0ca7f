"""A PyTorch port of models/qvim, for comparison and for checks of the whole network.

Written for this project from vseg_jax/models/qvim, in plain PyTorch (channels first,
`scaled_dot_product_attention`, `transformers.BertModel`). It covers the default `QvimConfig`.
Modules have the names of the JAX parameters, so that `foreign` can transfer weights.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from benchmarks.i3d_torch import I3D
from vseg_jax.models.qvim.config import SCALES, QvimConfig
from vseg_jax.text.bert import BertConfig
from vseg_jax.weights import bert as bert_weights

BUILT = {
    "backbone": "i3d", "backbone_norm": "batch", "temporal_pool": "mean",
    "qvim_feedback": False, "text": "bert", "att_norm": "softmax", "qgap": True,
    "cross_attention": True, "ca_w": "bilinear", "align_corners": True, "fuse": "finest",
    "qfa_scales": (1,), "qfa_foreground": True, "qfa_augment_matrix": True, "qfa_prob": 1.0,
    "qfa_detach_aux": True, "am_adain_scales": (4,), "am_adain_detach": True, "contrast": True,
    "pos_key": "both",
    "const_from_start": True, "mask_same_video": True, "gt_soft": False, "dtype": "float32",
}


class Visual(nn.Module):
    def __init__(self, config: QvimConfig):
        super().__init__()
        self.i3d = I3D(config.i3d_width, config.i3d_eps)

    def forward(self, frames: Tensor) -> list[Tensor]:
        clip = 2 * (frames.float() / 255) - 1
        return [stage.mean(2) for stage in self.i3d(clip.permute(0, 4, 1, 2, 3))]


# --- text -------------------------------------------------------------------------------------


class Text(nn.Module):
    def __init__(self, config: QvimConfig):
        super().__init__()
        self.bert = peer_bert(config.bert)
        self.project = nn.Linear(config.bert.hidden_size, config.channels)
        self.gru = nn.GRU(config.channels, config.channels, batch_first=True)

    def forward(self, tokens: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        words = self.bert(input_ids=tokens.long(), attention_mask=valid.long()).last_hidden_state
        words = self.project(words * valid[..., None]) * valid[..., None]
        packed = nn.utils.rnn.pack_padded_sequence(
            words, valid.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        return words, self.gru(packed)[1][0]


def peer_bert(config: BertConfig) -> transformers.BertModel:
    sizes = {k: v for k, v in vars(config).items() if k != "pooler"}
    return transformers.BertModel(
        transformers.BertConfig(**sizes), add_pooling_layer=config.pooler
    )


# --- interaction and decoder ------------------------------------------------------------------


def coordinates(height: int, width: int) -> Tensor:
    """Returns [8, H, W]: left, top, right, bottom, center x and y, 1/W, 1/H."""
    x, y = torch.arange(width) / width * 2 - 1, torch.arange(height) / height * 2 - 1
    y, x = torch.meshgrid(y, x, indexing="ij")
    right, bottom = x + 2 / width, y + 2 / height
    steps = [torch.full_like(x, 1 / width), torch.full_like(x, 1 / height)]
    return torch.stack([x, y, right, bottom, (x + right) / 2, (y + bottom) / 2, *steps])


def pooling(y: Tensor, query: Tensor) -> Tensor:
    """Returns a, the softmax of <v, q> / sqrt(C) over the pixels, [B, H, W]."""
    scores = torch.einsum("bchw,bc->bhw", y, query) * y.shape[1] ** -0.5
    return scores.flatten(1).softmax(1).view_as(scores)


class Place(nn.Module):
    def __init__(self, into: int, config: QvimConfig):
        super().__init__()
        c = config.channels
        self.limit = config.sa_kv_max
        self.position = nn.Conv2d(into + 8, c, 1)
        self.query, self.key, self.value = (nn.Conv2d(c, c, 1, bias=False) for _ in range(3))

    def forward(self, visual: Tensor) -> Tensor:
        feature = coordinates(*visual.shape[2:]).to(visual).expand(len(visual), -1, -1, -1)
        x = F.relu(self.position(torch.cat([visual, feature], 1)))
        few = x
        if self.limit is not None:
            few = F.adaptive_avg_pool2d(x, [min(s, self.limit) for s in x.shape[2:]])
        q, k, v = (
            map.flatten(2).transpose(1, 2)
            for map in (self.query(x), self.key(few), self.value(few))
        )
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + seen.transpose(1, 2).reshape(x.shape)


class Words(nn.Module):
    def __init__(self, config: QvimConfig):
        super().__init__()
        self.w = nn.Linear(config.channels, config.channels, bias=False)

    def forward(self, y: Tensor, words: Tensor, valid: Tensor) -> Tensor:
        scores = F.relu(y.flatten(2).transpose(1, 2) @ self.w(words).transpose(1, 2))
        return scores.masked_fill(~valid[:, None], -torch.inf).softmax(-1)


class Interaction(nn.Module):
    def __init__(self, into: int, config: QvimConfig):
        super().__init__()
        c = config.channels
        self.place = Place(into, config)
        self.share = nn.Linear(c, c)
        self.words = Words(config)
        self.merge = nn.Conv2d(2 * c, c, 1)

    def forward(self, visual, words, valid, query, augment, restyle):
        y = self.place(visual)
        a = pooling(y, query)
        if augment is not None:
            y = augment(y, a, query)
        pooled = torch.einsum("bchw,bhw->bc", y, a)
        z = y * (1 + a[0].numel() * a[:, None]) + self.share(pooled)[..., None, None]
        attention = self.words(y, words, valid)
        if restyle is not None:
            attention = restyle(attention, valid)
        spoken = (attention @ words).transpose(1, 2).reshape(z.shape)
        return z + F.relu(self.merge(torch.cat([z, spoken], 1))), pooled


class Decoder(nn.Module):
    def __init__(self, config: QvimConfig):
        super().__init__()
        widths, above = config.decoder_channels, config.channels
        for k in range(SCALES, 0, -1):
            width = widths[k - 1]
            if k < SCALES:
                conv = nn.Conv2d(above + config.channels, width, 3, padding=1, bias=False)
                setattr(self, f"conv_{k}", conv)
                setattr(self, f"norm_{k}", nn.BatchNorm2d(width))
                above = width
            setattr(self, f"head_{k}_a", nn.Conv2d(above, width, 3, padding=1))
            setattr(self, f"head_{k}_b", nn.Conv2d(width, width, 3, padding=1))
            setattr(self, f"head_{k}_c", nn.Conv2d(width, 1, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        layer, responses, x = self._modules, [], features[-1]
        for k in range(SCALES, 0, -1):
            here = features[k - 1]
            if k < SCALES:
                x = F.interpolate(x, here.shape[2:], mode="bilinear", align_corners=True)
                x = F.relu(layer[f"norm_{k}"](layer[f"conv_{k}"](torch.cat([x, here], 1))))
            head = F.relu(layer[f"head_{k}_b"](F.relu(layer[f"head_{k}_a"](x))))
            responses.insert(0, layer[f"head_{k}_c"](head)[:, 0])
        return responses


class Projection(nn.Module):
    def __init__(self, into: int, out: int):
        super().__init__()
        self.hidden, self.out = nn.Linear(into, into), nn.Linear(into, out)

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.out(F.relu(self.hidden(x))), dim=-1)


# --- the model and its training step ----------------------------------------------------------


class Qvim(nn.Module):
    """The network and its objective with QFA, AM-AdaIN and the contrastive constraint."""

    def __init__(self, config: QvimConfig):
        super().__init__()
        for key, built in BUILT.items():
            if getattr(config, key) != built:
                raise ValueError(
                    f"{key} is {getattr(config, key)!r}; the port supports only {built!r}")
        self.config = config
        self.visual, self.text = Visual(config), Text(config)
        for k, into in enumerate(self.visual.i3d.channels, start=1):
            setattr(self, f"qvim_{k}", Interaction(into, config))
        self.decoder = Decoder(config)
        self.contrast = nn.ModuleDict({
            name: Projection(config.channels, config.contrast_dim) for name in ("query", "visual")
        })
        self.momentum = Projection(config.channels, config.contrast_dim).requires_grad_(False)
        queue = F.normalize(torch.randn(config.queue, config.contrast_dim), dim=-1)
        self.register_buffer("queue", queue)
        self.register_buffer("videos", torch.full((config.queue,), -1))
        self.pointer = 0

    def forward(self, frames, tokens, valid, augment=None, restyle=None):
        """Returns logits at the input's size, the responses of all scales, p^1 and q."""
        words, query = self.text(tokens, valid)
        features, pooled = zip(*(
            self._modules[f"qvim_{k}"](
                visual, words, valid, query,
                augment if k == 1 else None, restyle if k == 4 else None,
            )
            for k, visual in enumerate(self.visual(frames), start=1)
        ), strict=True)
        responses = self.decoder(list(features))
        logits = F.interpolate(responses[0][:, None], frames.shape[2:4], mode="bilinear")[:, 0]
        return logits, responses, pooled[0], query

    def loss(self, batch, beta: float | None, alpha: Tensor, shift: int = 1) -> Tensor:
        """Computes L_seg + L_const; `beta` is None before QFA starts, `alpha` [B] is AM-AdaIN's."""

        def augment(y, a, query):
            if beta is None:
                return y
            other = y.detach().roll(shift, 0)
            other_a = pooling(other, query.detach())
            kept = (a * a[0].numel() > beta)[:, None].float()
            faded = 1 - (other_a / other_a.amax((1, 2), True))[:, None]
            return (1 - kept) * faded * other + kept * y

        def restyle(c, valid):
            mean, deviation = statistics(c, self.config.am_adain_eps)
            mix = (alpha[:, None] * (valid & valid.roll(shift, 0)))[:, None]
            new_mean, new_deviation = (
                (1 - mix) * own + mix * own.detach().roll(shift, 0) for own in (mean, deviation)
            )
            return (new_deviation * (c - mean) / deviation + new_mean) * valid[:, None]

        _, responses, pooled, query = self(
            batch["frames"], batch["tokens"], batch["tokens_valid"], augment, restyle
        )
        total = sum(self._segmentation(batch, r) for r in responses) / SCALES
        return total + self.config.contrast_weight * self._constraint(batch, pooled, query)

    def _segmentation(self, batch, response):
        rows = torch.arange(len(response), device=response.device)
        index = batch["masks"][rows, batch["target"].long()]
        counts = (index != 255).float()[:, None]
        mask = (index == batch["object_id"][:, None, None]).float()[:, None]
        share = F.interpolate(counts, response.shape[1:], mode="area")[:, 0]
        mean = F.interpolate(mask * counts, response.shape[1:], mode="area")[:, 0]
        target = (mean / share.clamp_min(1e-9) > 0.5).float()
        weight = torch.tensor(self.config.pos_weight, device=response.device)
        each = F.binary_cross_entropy_with_logits(
            response, target, share, reduction="none", pos_weight=weight
        )
        return (each.sum((1, 2)) / share.sum((1, 2))).mean()

    def _constraint(self, batch, pooled, query):
        c = self.config
        with torch.no_grad():
            for old, new in zip(
                self.momentum.parameters(), self.contrast["visual"].parameters(), strict=True
            ):
                old.lerp_(new, 1 - c.momentum)
            keys = self.momentum(pooled)
        query, positive = self.contrast["query"](query), self.contrast["visual"](pooled)
        negative = query @ self.queue.clone().T
        negative = negative.masked_fill(batch["video"][:, None] == self.videos, -torch.inf)
        queued = torch.cat([(query * keys).sum(-1, True), negative], 1) / c.contrast_temperature
        same = batch["video"][:, None] == batch["video"]
        same.fill_diagonal_(False)
        within = (query @ positive.T).masked_fill(same, -torch.inf) / c.contrast_temperature
        place = (self.pointer + torch.arange(len(keys))) % len(self.queue)
        self.queue[place], self.videos[place] = keys, batch["video"].long()
        self.pointer = (self.pointer + len(keys)) % len(self.queue)
        mine = torch.arange(len(keys), device=query.device)
        return (F.cross_entropy(queued, torch.zeros_like(mine)) + F.cross_entropy(within, mine)) / 2


def statistics(attention: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns mean and biased standard deviation of each word over the pixels, [B, 1, L]."""
    variance = attention.var(1, correction=0, keepdim=True)
    return attention.mean(1, keepdim=True), (variance + eps).sqrt()


# --- weights ----------------------------------------------------------------------------------

GRU = {
    "weight_ih_l0": "input_kernel", "weight_hh_l0": "hidden_kernel",
    "bias_ih_l0": "input_bias", "bias_hh_l0": "hidden_bias",
}


def state_dict(port: Qvim, variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns our variables (or gradients, `params` alone) with the port's names and layouts.

    Raises:
      ValueError: the port has no counterpart for an array of ours.
    """
    left, moved = dict(flat(variables)), {}
    for name, value in port.state_dict().items():
        path = _path(name)
        if path in left:
            moved[name] = layout(np.asarray(left.pop(path)), path, tuple(value.shape))
    left = [p for p in left if not p.startswith("moco/")]
    if left:
        raise ValueError(f"the port has no place for {', '.join(left)}")
    return moved


def copy(port: Qvim, variables: dict[str, Any]) -> None:
    """Copies our weights, running statistics, queue and momentum head into the port."""
    state = port.state_dict()
    state |= {k: torch.from_numpy(v.copy()) for k, v in state_dict(port, variables).items()}
    moco = variables["moco"]
    for name, path in [("queue", "queue"), ("videos", "videos")]:
        state[name] = torch.from_numpy(np.array(moco[path]))
    for name, leaf in flat(moco["momentum"]["visual"]):
        layer, kind = name.split("/")
        kind = {"kernel": "weight"}.get(kind, kind)
        state[f"momentum.{layer}.{kind}"] = torch.from_numpy(np.array(leaf).T.copy())
    port.load_state_dict(state)


def flat(tree: dict[str, Any], prefix: str = ""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def _path(name: str) -> str | None:
    """Returns our path for a name of the port's state."""
    if name.startswith("text.bert."):
        for rule in bert_weights.RULES:
            if match := re.fullmatch(rule.pattern, name.removeprefix("text.bert.")):
                ours = match.expand(rule.target).removeprefix("params/")
                return f"params/text/bert/{ours}"
        raise ValueError(f"no rule for {name}")
    *modules, leaf = name.split(".")
    if modules == ["text", "gru"]:
        return f"params/text/gru/forward/{GRU[leaf]}"
    if leaf.startswith("running_"):
        return "/".join(["batch_stats", *modules, leaf.removeprefix("running_")])
    norm = bool(modules) and modules[-1].startswith("norm")
    return "/".join(["params", *modules, {"weight": "scale" if norm else "kernel"}.get(leaf, leaf)])


def layout(value: np.ndarray, path: str, shape: tuple[int, ...]) -> np.ndarray:
    if value.ndim > 1 and not path.endswith("embedding"):
        value = np.moveaxis(value, (-1, -2), (0, 1))  # [..., in, out] -> [out, in, ...]
    return value.reshape(shape)
