"""The pages about the shipped models, from their cards and files (`vseg_jax.zoo`).

`python docs/generate.py` writes them; unlike the other generated pages they are part of the
repository, and a test checks that they are up to date.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vseg_jax import zoo

DOCS = Path(__file__).resolve().parent
BEGIN, END = "<!-- shipped models: written by docs/generate.py -->", "<!-- end -->"
NOTHING = "No model ships with this version."
PROMPTS = {"query": 'query="the red car"', "mask": "mask=mask", "": ""}
FLAGS = {"query": ' --query "the red car"', "mask": " --mask first.png", "": ""}
PROMPT_NAMES = {"query": "referring expression", "mask": "first-frame mask", "": "none"}


def table() -> str:
    """Returns the table of the shipped models."""
    rows = [zoo.describe(name) for name in zoo.names()]
    if not rows:
        return NOTHING
    header = ("| model | prompt | config | trained on | scores | size | speed | license |",
              "|---|---|---|---|---|---|---|---|")
    return "\n".join([*header, *(_row([
        f"[{row['name']}](zoo.md#{row['name']})", PROMPT_NAMES[row["prompt"]],
        f"`{row['config']}`", row["data"], "; ".join(map(_score, row["scores"])), _size(row),
        row["speed"], row["license"]]) for row in rows)])


def cards() -> str:
    """Returns the page with the card of every shipped model."""
    parts = [
        "# Shipped models\n",
        "These models are part of the package: `pip install` brings them, and nothing is "
        "downloaded later. `vseg models` lists them. Their files store the kernels in half "
        "precision; the scores below are those of the files.\n",
        *(_card(zoo.describe(name)) for name in zoo.names()),
    ]
    if not zoo.names():
        parts.append(f"{NOTHING} [Share a model](../guides/share.md) describes how to use and "
                     "share your own.\n")
    return "\n".join(parts).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Returns {file below docs: text} of all pages that show shipped models."""
    index = (DOCS / "models/index.md").read_text()
    filled = re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}",
                    lambda _: f"{BEGIN}\n{table()}\n{END}", index, flags=re.S)
    return {"models/zoo.md": cards(), "models/index.md": filled}


def _card(row: dict[str, Any]) -> str:
    argument = PROMPTS[row["prompt"]]
    needs = "".join(f"- **Needs** the package `{name}`: `{install}`.\n"
                    for name, install in row["packages"].items())
    scores = "\n".join(_row([score["data"], score["metric"], f"{100 * score['value']:.1f}",
                             f"`{score['command']}`"]) for score in row["scores"])
    training = "\n".join(row["training"])
    return f"""## {row["name"]}

{row["summary"]}

```
vseg predict --model {row["name"]} --video clip.mp4{FLAGS[row["prompt"]]} --output masks
```

```python
segmenter = vseg_jax.load("{row["name"]}")
for prediction in segmenter.segment("clip.mp4"{", " * bool(argument)}{argument}):
    prediction.index
```

- **Model**: [{row["system"]}]({row["system"]}.md), {row["parameters"] / 1e6:.1f} M parameters, \
{_size(row)}; prompt: {PROMPT_NAMES[row["prompt"]]}.
- **Speed**: {row["speed"]}.
- **Limits**: {row["limits"]}
- **License**: {row["license"]}. Started from: {row["sources"]}.
- **Trained on**: {row["data"]}.
{needs}
```
{training}
```

| data | metric | score, % | command |
|---|---|---|---|
{scores}
"""


def _score(score: dict[str, Any]) -> str:
    return f"{score['metric']} {100 * score['value']:.1f}, {score['data']}"


def _size(row: dict[str, Any]) -> str:
    return f"{row['bytes'] / 1e6:.1f} MB"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
