"""Writes bert.npz, gru.npz and lstm.npz: outputs and gradients of PyTorch's own networks.

    python tests/goldens/text.py

Source: `transformers.BertModel` 5.23.0 and `torch.nn.GRU`, `torch.nn.LSTM` 2.13.0 (CPU, float32,
eval mode), weights normal(0, 0.5) from numpy seed 0, sizes as below. The loss whose gradients are
stored is the sum of each valid output times a fixed normal number (`loss_<output>`). The weights
are stored too, under PyTorch's names.
"""

import pathlib

import numpy as np
import torch
import transformers

HERE = pathlib.Path(__file__).parent
BERT = {
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
}
LENGTHS = (6, 4)  # valid words of the two sentences
WORD, HIDDEN = 5, 4  # of the recurrent networks


def numbers(random, shape, scale=1.0):
    return torch.from_numpy((random.standard_normal(shape) * scale).astype(np.float32))


def randomize(module, random):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(numbers(random, parameter.shape, 0.5))
    return module.eval()


def backpropagated(module, outputs, random):
    """Returns all arrays to store, after a backward pass from the weighted sum of `outputs`."""
    weights = {name: numbers(random, value.shape) for name, value in outputs.items()}
    sum((value * weights[name]).sum() for name, value in outputs.items()).backward()
    kept = dict(outputs)
    kept |= {f"loss_{name}": value for name, value in weights.items()}
    for name, parameter in module.named_parameters():
        kept |= {f"weight/{name}": parameter, f"gradient/{name}": parameter.grad}
    return kept


def bert(random):
    config = transformers.BertConfig(**BERT)
    model = randomize(transformers.BertModel(config), random)
    valid = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.from_numpy(random.integers(1, BERT["vocab_size"], valid.shape)) * valid
    out = model(input_ids=tokens, attention_mask=valid.long(), output_hidden_states=True)
    words = out.last_hidden_state * valid[..., None]
    kept = backpropagated(model, {"words": words, "pooled": out.pooler_output}, random)
    hidden = {f"hidden_{i}": h * valid[..., None] for i, h in enumerate(out.hidden_states)}
    return kept | hidden | {"tokens": tokens.int(), "valid": valid}


def recurrent(kind, random):
    model = randomize(kind(WORD, HIDDEN, batch_first=True, bidirectional=kind is torch.nn.LSTM),
                      random)
    x = numbers(random, (len(LENGTHS), max(LENGTHS), WORD))
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(LENGTHS), batch_first=True)
    states, last = model(packed)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    last = last[0] if isinstance(last, tuple) else last
    last = last.transpose(0, 1).flatten(1)  # [direction, B, F] -> [B, direction * F]
    kept = backpropagated(model, {"states": states, "last": last}, random)
    return kept | {"x": x, "valid": torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]}


def main():
    random = np.random.default_rng(0)
    for name, kept in {
        "bert": bert(random),
        "gru": recurrent(torch.nn.GRU, random),
        "lstm": recurrent(torch.nn.LSTM, random),
    }.items():
        np.savez_compressed(
            HERE / f"{name}.npz", **{k: v.detach().numpy() for k, v in kept.items()}
        )


if __name__ == "__main__":
    main()
