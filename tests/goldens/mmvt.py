"""Writes tests/goldens/mmvt.npz from the public PyTorch code of mmvt.

    PYTHONPATH=.:tests/parity python tests/goldens/mmvt.py --references DIR

Repository, commit and the layout of DIR: tests/parity/mmvt_public.py and docs/parity.md. All that
follows the two ResNets and BERT, in a sixteenth of the width, on seeded maps and words, with the
public losses. Weights and inputs follow from names and seeds, so only the public keys with their
shapes, and samples of the results, are stored.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import mmvt_public
import numpy as np
import seeded
import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", required=True)
    network, losses = mmvt_public.load(parser.parse_args().references, small=True)
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    fill(network, shapes)
    network.eval()
    with torch.no_grad():
        results = run(network, losses, *mmvt_public.features(mmvt_public.SMALL))[0]
    results = {name: seeded.sample(x) if x.ndim else x for name, x in results.items()}
    path = Path(__file__).with_suffix(".npz")
    np.savez_compressed(path, shapes=json.dumps(shapes), **results)
    print(path.name, path.stat().st_size, "bytes")


def fill(network: torch.nn.Module, shapes: dict[str, tuple[int, ...]]) -> None:
    """Loads the seeded weights into the public network, but keeps its coordinates."""
    state = mmvt_public.state_dict(shapes)
    state = {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    strangers = [k for k in missing if not k.endswith(("spatial_pos", "_ids"))]
    assert not strangers and not unexpected, (strangers, unexpected)


def run(network, losses, vision, flow, words, valid, mask, dtype=torch.float32):
    """Returns (numbers as `mmvt_public.summary`, total loss) of all parts after the encoders."""
    frames = mmvt_public.FRAMES

    def maps(arrays):
        flat = (np.moveaxis(x.reshape(-1, *x.shape[2:]), -1, 1).copy() for x in arrays)
        return {f"layer{k}": torch.from_numpy(x).to(dtype) for k, x in enumerate(flat, start=1)}

    language = torch.from_numpy(words.repeat(frames, 0)).to(dtype)
    attention = torch.from_numpy(valid.repeat(frames, 0)).long()
    side = mask.shape[1]
    head = network.LanguagemodelGuidedSegmentation
    fused_vision, fused_flow, logits = head(
        maps(vision), maps(flow), language, attention, (side, side), frames
    )
    sentence = language[frames - 1 :: frames, 0][:, :, None, None]
    kept = {}
    hooks = [
        getattr(network.contrastive, f"{name}_proj").register_forward_hook(
            lambda module, inputs, out, name=name: kept.update({name: out}))
        for name in ("vision", "flow")
    ]
    pairs = network.contrastive(fused_vision, fused_flow, sentence, None)
    for hook in hooks:
        hook.remove()
    truth = torch.from_numpy(mask[:, None]).long()
    names = ("vision_map", "flow_map", "vision_flow_map")
    out = losses.compute(
        {"logits": logits, "mask": torch.sigmoid(logits), "cls_gt": truth, "gt": truth,
         **dict(zip(names, pairs, strict=True))}, 0,
    )

    def unit(x):
        x = torch.nn.functional.normalize(x, dim=1)
        return np.moveaxis(x.detach().numpy(), 1, -1)

    terms = {
        "vision_language": "vision_contrast_loss", "flow_language": "flow_contrast_loss",
        "vision_flow": "vision_flow_contrast_loss",
    }
    results = {
        "logits": logits[:, 0].detach().numpy(), "vision": unit(kept["vision"]),
        "flow": unit(kept["flow"]),
        **{ours: out[theirs].detach().numpy() for ours, theirs in terms.items()},
    }
    results["segmentation"] = (
        out["total_loss"] - sum(out[name] for name in terms.values())
    ).detach().numpy()
    return results, out["total_loss"]


if __name__ == "__main__":
    main()
