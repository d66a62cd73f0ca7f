"""The primary endpoint of a study: is one row above its rivals on one test set?

A row with chance results differs from another in most columns of a table. So a study that claims
something names one test set, one row and its rivals before it is run, and only these are tested.

Both rows of a comparison have the same seeds and the same clips, and all samples of a clip are
alike. The mean difference is therefore resampled over seeds and over clips at once, with both rows
of a pair in the same resample (a bootstrap of two crossed factors, as in Owen, "The pigeonhole
bootstrap", 2007). With few seeds the plain percentiles are too narrow, so each resample is divided
by its own standard error (bootstrap-t; Efron and Tibshirani, 1993, section 12.5).

Any study can list such differences without a test (`differences`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vseg_jax.settings import EndpointConfig, StudyConfig

SCORES = "scores.json"  # of a complete cell
LEVEL = 0.05  # of the adjusted p, and 1 - LEVEL is the coverage of the intervals
RESAMPLES = 10_000
SAMPLES = ("sample_iou", "sample_video")  # keys of a dataset's scores: IoU and clip of each sample


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row against another.

    Attributes:
      difference: mean over the seeds of the difference of the mean IoU, in [-1, 1].
      low, high: the ends of its 95 % interval, for this comparison by itself.
      p: two-sided, for this comparison by itself.
      by_seed: the difference of each seed.
    """

    difference: float
    low: float
    high: float
    p: float
    by_seed: tuple[float, ...]


def bootstrap(
    sums: Float[np.ndarray, "seeds clips"],
    counts: Float[np.ndarray, "seeds clips"],
    resamples: int = RESAMPLES,
) -> Comparison:
    """Returns the mean difference of two rows with its interval and p; deterministic.

    Args:
      sums: sum of the differences of a clip's samples.
      counts: number of these samples; 0 where a seed does not have the clip.
      resamples: number of resamples of seeds and clips.
    """
    seeds, clips = sums.shape
    random = np.random.default_rng(0)   # comparisons of equal shape have the same resamples
    drawn = [random.multinomial(n, np.full(n, 1 / n), resamples).astype(float)
             for n in (seeds, clips)]
    (mean,), (error,) = _estimate(sums, counts, np.ones((1, seeds)), np.ones((1, clips)))
    means, errors = _estimate(sums, counts, *drawn)
    by_seed = tuple((sums.sum(1) / counts.sum(1)).tolist())
    if error <= 1e-12:   # all differences are equal
        return Comparison(mean, mean, mean, float(abs(mean) <= 1e-12), by_seed)
    ratios = (means - mean) / np.maximum(errors, 1e-12)
    low, high = np.quantile(ratios, (LEVEL / 2, 1 - LEVEL / 2))
    tail = min((ratios >= mean / error).sum(), (ratios <= mean / error).sum())
    p = min(1.0, 2 * (1 + tail) / (1 + resamples))
    return Comparison(float(mean), float(mean - high * error), float(mean - low * error), float(p),
                      by_seed)


def _estimate(
    sums: Float[np.ndarray, "seeds clips"],
    counts: Float[np.ndarray, "seeds clips"],
    seed_weights: Float[np.ndarray, "R seeds"],
    clip_weights: Float[np.ndarray, "R clips"],
) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Returns the mean and its standard error under each row of weights.

    The error is that of seeds and clips as two crossed factors; with one seed, or one clip, that of
    the other alone. The part of the difference that belongs to a seed and a clip together counts
    twice, which makes it a little too large.
    """
    seeds, clips = sums.shape
    of_seed = (clip_weights @ sums.T) / (clip_weights @ counts.T)   # [R, seeds]
    mean = (seed_weights * of_seed).mean(1)
    over_seeds = (seed_weights * (of_seed - mean[:, None])**2).sum(1) / max(seeds - 1, 1) / seeds
    of_clip = seed_weights @ counts   # [R, clips]
    total = (clip_weights * of_clip).sum(1)
    residuals = seed_weights @ sums - mean[:, None] * of_clip
    over_clips = (clip_weights * residuals**2).sum(1) / total**2 * clips / max(clips - 1, 1)
    return mean, np.sqrt(over_seeds + over_clips)


def holm(p: Sequence[float]) -> list[float]:
    """Returns Holm's adjusted p of several tests, in their order."""
    count, order = len(p), np.argsort(p)
    stepped = np.asarray(p)[order] * (count - np.arange(count))
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted.tolist()


def compare(
    row: Mapping[int, Mapping[str, Any]], rival: Mapping[int, Mapping[str, Any]]
) -> Comparison:
    """Returns a row against a rival on the seeds of both.

    Args:
      row, rival: {seed: scores of the dataset}, with `SAMPLES`.

    Raises:
      ValueError: the two were not evaluated on the same samples.
    """
    pairs = _pair(row, rival)
    clips = np.unique(np.concatenate([video for video, _ in pairs]))
    sums, counts = np.zeros((2, len(pairs), len(clips)))
    for k, (video, gains) in enumerate(pairs):
        where = np.searchsorted(clips, video)
        sums[k] = np.bincount(where, gains, len(clips))
        counts[k] = np.bincount(where, minlength=len(clips))
    return bootstrap(sums, counts)


def _pair(
    row: Mapping[int, Mapping[str, Any]], rival: Mapping[int, Mapping[str, Any]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns, for each seed, the clip and the difference in IoU of each sample; see `compare`."""
    pairs = []
    for seed, scores in row.items():
        video = np.asarray(scores["sample_video"])
        if not np.array_equal(video, rival[seed]["sample_video"]):
            raise ValueError(f"seed {seed}: the two rows were not evaluated on the same samples")
        iou, other = (np.asarray(s["sample_iou"], float) for s in (scores, rival[seed]))
        pairs.append((video, iou - other))
    return pairs


def verdict(study: StudyConfig, workdir: Path) -> tuple[str, dict[str, Comparison]]:
    """Returns the comparisons as a Markdown table and in words, and {rival: comparison}.

    Nothing is tested before every cell of its rows is complete, because a decision to stop that
    depends on the results so far would make p meaningless.
    """
    endpoint = study.endpoint
    assert endpoint is not None
    head = (f"Primary endpoint, fixed before the runs: mean IoU on {endpoint.dataset}, "
            f"{endpoint.row} against {_list(endpoint.rivals)}.")
    rows = (endpoint.row, *endpoint.rivals)
    paths = {row: {seed: workdir / row / str(seed) / SCORES for seed in study.seeds}
             for row in rows}
    missing = sum(not path.is_file() for of_row in paths.values() for path in of_row.values())
    if missing:
        return (f"{head} It is tested when the last of its runs is complete; {missing} are "
                "missing.\n"), {}
    scores = {row: {seed: json.loads(path.read_text())["scores"].get(endpoint.dataset, {})
                    for seed, path in of_row.items()} for row, of_row in paths.items()}
    if not all(key in s for of_row in scores.values() for s in of_row.values() for key in SAMPLES):
        return f"{head} It is not tested: the scores lack the IoU of each sample.\n", {}
    found = {rival: compare(scores[endpoint.row], scores[rival]) for rival in endpoint.rivals}
    return head + "\n\n" + _table(endpoint, found, len(study.seeds)), found


def differences(study: StudyConfig, workdir: Path) -> str:
    """Returns how each row of `study.paired` differs from the other one; a table per dataset.

    Descriptive: the intervals are those of each difference by itself. It has the seeds that are
    complete in both rows, and the datasets whose scores have the IoU of each sample.
    """
    text = ""
    cells = {(name, seed): json.loads(path.read_text())["scores"]
             for name in {*study.paired, *study.paired.values()} for seed in study.seeds
             if (path := workdir / name / str(seed) / SCORES).is_file()}
    for dataset in dict.fromkeys(path.split("/")[0] for path in study.columns.values()):
        lines = "".join(_difference(study.seeds, cells, dataset, *pair)
                        for pair in study.paired.items())
        if lines:
            text += (f"\n| {dataset} | against | difference | 95 % interval | worse | seeds |\n"
                     f"{'|---' * 6}|\n{lines}")
    return text and (
        f"{text}\nDifferences of the mean IoU on the same samples (frames with an expression, or "
        "objects of a video), in percentage points. Intervals: paired bootstrap over seeds and "
        "clips, or over those of the two that are more than one. Worse: percentage of the samples "
        "whose IoU is lower than in the other row.\n")


def _difference(seeds: Sequence[int], cells: Mapping[tuple[str, int], Mapping[str, Any]],
                dataset: str, row: str, rival: str) -> str:
    """Returns a line of `differences`; "" where there is nothing to compare."""
    both: dict[int, list[Mapping[str, Any]]] = {}
    for seed in seeds:
        if (row, seed) in cells and (rival, seed) in cells:
            found = [cells[name, seed].get(dataset, {}) for name in (row, rival)]
            if all(key in scores for scores in found for key in SAMPLES):
                both[seed] = found
    if not both:
        return ""
    of_rows = [{seed: found[k] for seed, found in both.items()} for k in (0, 1)]
    c = compare(*of_rows)
    gains = np.concatenate([gain for _, gain in _pair(*of_rows)])
    interval = f"{100 * c.low:+.1f} to {100 * c.high:+.1f}" if c.low < c.high else ""
    return (f"| {row} | {rival} | {100 * c.difference:+.1f} | {interval} | "
            f"{100 * (gains < 0).mean():.0f} | {len(both)} |\n")


def _table(endpoint: EndpointConfig, found: Mapping[str, Comparison], seeds: int) -> str:
    adjusted = dict(zip(found, holm([c.p for c in found.values()]), strict=True))
    text = (f"| {endpoint.row} against | difference | 95 % interval | p | p, Holm | seeds | |\n"
            f"{'|---' * 7}|\n")
    groups: dict[str, list[str]] = {"above": [], "below": [], "not distinguished from": []}
    for rival, c in found.items():
        word = "not distinguished from"
        if adjusted[rival] < LEVEL:
            word = "above" if c.difference > 0 else "below"
        groups[word].append(rival)
        text += (f"| {rival} | {100 * c.difference:+.1f} | {100 * c.low:+.1f} to "
                 f"{100 * c.high:+.1f} | {c.p:.2g} | {adjusted[rival]:.2g} | {seeds} | "
                 f"{word.removesuffix(' from')} |\n")
    words = "; ".join(f"{word} {_list(rivals)}" for word, rivals in groups.items() if rivals)
    return (f"{text}\n{endpoint.row} is {words}. Differences are percentage points. Intervals and "
            f"p: paired bootstrap over seeds and clips, {RESAMPLES:,} resamples; Holm's p corrects "
            f"for the {len(found)} comparisons, and below {LEVEL} decides. All other columns are "
            "descriptive.\n")


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
