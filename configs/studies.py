"""Studies: rows of settings by seeds, one table each.

    vseg study --config studies:text --workdir runs/text

A study that was stopped resumes with the same command. A key that all its configs have can be set
for all runs: `--config.train.steps=100`. The documentation lists the results. `vseg cost` reports
the parameter counts and FLOPs of the rows without running them.

Variants:
  text  The three referring systems on the same synthetic videos: cvls with and without all of its
        modules, mmvt with and without the motion stream, qvim. A third of the objects differ from
        the others only in how they move.

  cvls_modules  Table 3 and Figure 6 of cvls' paper: each of its modules, the share of hard pixels,
        and the weight of the contrast.

  mmvt_steps  What each part adds to mmvt, from the baseline of its released checkpoint's name to
        all parts, and the number of frames of a clip.

  mmvt_colors  What may keep mmvt from colors in few steps: a row with the sentence as a mean over
        its words, one with its own normalization, one with 6x6 cells in place of 3x3, one with a
        tenth of the weight of the alignment losses.

        The four have runs in common. In a common --workdir, each run is executed once:

            for study in text cvls_modules mmvt_steps mmvt_colors; do
              vseg study --config studies:$study --workdir runs/text
            done

  tuning  Six settings of each method of `methods`, scored on a domain that nothing else uses.
  methods  qvim's Table 1 on synthetic videos: the baseline, the five compared methods and the full
        model; scored on the source, on the target domain and on single shifts; eight seeds. The one
        test: is the full model above the baseline and above each compared method on the target
        domain?
  parts  Tables 2 and 3 and Figure 3c: the full model without each of its parts. Three seeds.
  layers  Figure 3: QFA and AM-AdaIN at each scale and at all; QFA with its final threshold right
        after the warm-up, and from the start. Three seeds.
  modalities  Appendix A.2: the compared methods on the visual features, on the words, and on both.
        RobustNet is IRW here, because ISW compares colors and cannot act on words. Three seeds.

        The last four have runs in common. In a common --workdir, each run is executed once:

            for study in methods parts layers modalities; do
              vseg study --config studies:$study --workdir runs/qvim
            done

  recipe  rcf on synthetic videos: `rcf:shapes`, without each of its parts that the paper lacks,
        and the same models with the paper's rules of firing and identities. Three seeds.
  references, fusion, tokens, queries, order, weight  Tables III to VIII of rcf's paper on synthetic
        videos: the number of references, how they are fused, the tokens that hold them, the slots,
        the supervision of their order, the weights W. Three seeds.

        The seven have runs in common. In a common --workdir, each run is executed once:

            for study in recipe references fusion tokens queries order weight; do
              vseg study --config studies:$study --workdir runs/rcf
            done

  audio  rcf on look-alikes whose category only audio reveals, without and with audio. Three seeds.
  audio_references  Table X: the same with one to five references. It has the runs of `audio`.
  audio_which  rcf on look-alikes of which only one sounds when it moves: only audio and a reference
        together reveal which. With neither, each, and both. Three seeds.

  adaptation  swiftnet's first-frame adaptation on look-alikes: with and without it, with a static
        and an updated memory, by steps, rate and reduction, and with our changes. Each seed trains
        one model, which all rows evaluate. The one test: does adaptation as in the paper raise the
        static memory on synthetic videos of an unseen domain? Five seeds. It reads data/stills and
        data/DAVIS.
  adaptation_ovis, adaptation_davis  Tables 1 and 2 of swiftnet's paper, from a trained model and
        without any training:

            vseg study --config studies:adaptation_ovis --workdir runs/adaptation_ovis \\
              --config.init_from=runs/swiftnet_2 \\
              --config.evaluation.datasets.vos25.source=/data/OVIS
            vseg study --config studies:adaptation_davis --workdir runs/adaptation_davis \\
              --config.init_from=runs/swiftnet_2 \\
              --config.evaluation.datasets.davis_val.source=/data/DAVIS

  a2d, rvos  Tables 1 to 3 at the paper's size, trained as `qvim:a2d` (A2J, A2R) and `qvim:rvos`
        (R2A), with the compared methods also inside the backbone (`..._backbone`); `vseg cost` of
        either gives Table 4 and needs no data. We have not run them.
  a2d_layers, rvos_layers, a2d_modalities, rvos_modalities  As `layers` and `modalities`, at the
        paper's size. In one --workdir, those of a2d have runs in common, and those of rvos too.
  domains  Figure 1b: the baseline trained on each of the two datasets and scored on both. It reads
        data/A2D and data/RVOS.
"""

import functools
import itertools

from vseg_jax.configs import _adaptation, _instances, _motions, qvim
from vseg_jax.configs._common import variant_of
from vseg_jax.settings import EndpointConfig, RowConfig, StudyConfig

SHIFTS = ("background", "light", "style", "crowd", "lexicon")  # test sets with a single shift
SET_UP = (0,)  # the seed on which `qvim:benchmark` was set up and its methods were tuned
FRESH = (1, 2, 3, 4, 5, 6, 7, 8)

# Rows of qvim's studies, as changes of the full model.
FULL = {"full": {}}
BASELINE = {"model.qfa_scales": (), "model.am_adain_scales": (), "model.contrast": False}
COMPARED = ("sfa", "adain", "mixstyle", "dsu", "isw")
WITHOUT = {  # Table 2
    "without_qfa": {"model.qfa_scales": ()},
    "without_contrast": {"model.contrast": False},
    "without_am_adain": {"model.am_adain_scales": ()},
}
PARTS = {
    "without_qgap": {"model.qgap": False},  # Table 2
    "without_cross_attention": {"model.cross_attention": False},
    "qfa_without_b": {"model.qfa_foreground": False},  # Table 3
    "qfa_without_m_aug": {"model.qfa_augment_matrix": False},
    "qfa_constant": {"model.qfa_schedule": "constant"},  # Figure 3c
    "qfa_from_start": {"model.qfa_schedule": "from_start"},
}
# Six settings of each method, tuned on the development domain. In these short trainings, ISW
# must measure its covariances, and SFA must start, before the end.
PLACES = ("interaction", "backbone")
EARLY = {"sfa": {"sfa_start": 0}, "isw": {"isw_trials": 2, "isw_images": 200}}
GRIDS = {
    "sfa": {"place": PLACES, "sfa_noise": (0.1, 0.3, 1.0)},
    "adain": {"place": PLACES, "prob": (0.25, 0.5, 1.0)},
    "mixstyle": {"place": PLACES, "mixstyle_alpha": (0.1, 0.3, 1.0)},
    "dsu": {"place": PLACES, "prob": (0.25, 0.5, 1.0)},
    "isw": {"place": PLACES, "whitening_weight": (0.06, 0.2, 0.6)},
    "full": {"qfa_beta_max": (0.1, 0.25, 0.5), "contrast_weight": (0.03, 0.1)},
}
# The best of each on the development domain, after `tuning`; the full model's are in the config.
TUNED = {
    "sfa": {**EARLY["sfa"], "place": "backbone", "sfa_noise": 0.3},
    "adain": {"place": "backbone", "prob": 1.0},
    "mixstyle": {"place": "interaction", "mixstyle_alpha": 1.0},
    "dsu": {"place": "backbone", "prob": 0.25},
    "isw": {**EARLY["isw"], "place": "backbone", "whitening_weight": 0.06},
}
# {task or test set of its own domain: dataset} of the paper-size configs.
TASKS = {"a2d": {"A2D": "a2d_test", "A2J": "jhmdb", "A2R": "a2r"},
         "rvos": {"RVOS": "rvos_dev", "R2A": "a2d_test"}}
ENDPOINT = {"a2d": "jhmdb", "rvos": "a2d_test"}   # A2J and R2A
SCALES = {"1": (1,), "2": (2,), "3": (3,), "4": (4,), "5": (5,), "all": (1, 2, 3, 4, 5)}


def get_study(variant: str = "text") -> StudyConfig:
    """Returns the study of a variant; raises ValueError where there is none of that name."""
    return variant_of(VARIANTS, variant, "studies")


def _tuning() -> StudyConfig:
    rows = {"baseline": BASELINE}
    for name, grid in GRIDS.items():
        for number, values in enumerate(itertools.product(*grid.values())):
            setting = dict(zip(grid, values, strict=True))
            rows[f"{name}_{number}"] = (
                {f"model.{key}": value for key, value in setting.items()} if name == "full"
                else _compared({name: {**EARLY.get(name, {}), **setting}}, (name,))[name])
    scored = qvim.get_config("benchmark").evaluation.datasets
    others = {f"evaluation.datasets.{name}": None for name in scored if name != "development"}
    return StudyConfig(
        rows={name: RowConfig(row.config, {**row.changes, **others}, row.init_from)
              for name, row in _rows("benchmark", rows).items()},
        columns=_mean_iou("development"),
        seeds=SET_UP,
    )


def _methods() -> StudyConfig:
    return StudyConfig(
        rows=_rows("benchmark", {**_compared(TUNED), **FULL}),
        columns={**_columns("benchmark"), "best object": "target/best_iou",
                 "grounded": "target/grounded", "guess": "target/guess_iou",
                 "shuffled": "source_shuffled_expressions/mean_iou"},
        seeds=FRESH,
        endpoint=EndpointConfig("target", "full", ("baseline", *COMPARED)),
    )


def _parts() -> StudyConfig:
    return StudyConfig(
        rows=_rows("benchmark", {**FULL, **WITHOUT, **PARTS}),
        columns=_columns("benchmark"),
        seeds=_seeds("benchmark"),
        baseline="full",
    )


def _layers(variant: str) -> StudyConfig:
    # The full model has QFA at scale 1 and AM-AdaIN at scale 4. Each is moved by itself, and in two
    # rows the threshold of QFA does not grow.
    qfa = {k: "full" if k == "1" else f"qfa_{k}" for k in SCALES}
    am_adain = {k: "full" if k == "4" else f"am_adain_{k}" for k in SCALES}
    rows = {
        **FULL,
        "without_qfa": WITHOUT["without_qfa"],
        **{qfa[k]: {"model.qfa_scales": at} for k, at in SCALES.items() if k != "1"},
        "without_am_adain": WITHOUT["without_am_adain"],
        **{am_adain[k]: {"model.am_adain_scales": at} for k, at in SCALES.items() if k != "4"},
        "qfa_constant": PARTS["qfa_constant"],
        "qfa_from_start": PARTS["qfa_from_start"],
    }
    return StudyConfig(
        rows=_rows(variant, rows),
        columns=_columns(variant),
        seeds=_seeds(variant),
        baseline="full",
        lines={"QFA at scale": {"none": "without_qfa", **qfa},
               "QFA, constant threshold": {"1": "qfa_constant"},
               "QFA, constant threshold from the start": {"1": "qfa_from_start"},
               "AM-AdaIN at scale": {"none": "without_am_adain", **am_adain}},
    )


def _modalities(variant: str) -> StudyConfig:
    tuned = TUNED if variant == "benchmark" else {}
    rows = {"baseline": BASELINE}
    for name in ("sfa", "adain", "mixstyle", "dsu", "irw"):
        # At the interaction, because words do not pass through the backbone.
        setting = {**tuned.get(name, {}), "place": "interaction"}
        visual = _compared({name: setting}, (name,))[name]
        shared = setting == {"place": "interaction", **tuned.get(name, {})}   # with `methods`
        rows |= {name if shared else f"{name}_visual": visual, **{
            f"{name}_{modality}": {**visual, "model.compared.modality": modality}
            for modality in ("text", "both")}}
    return StudyConfig(
        rows=_rows(variant, rows),
        columns=_columns(variant),
        seeds=_seeds(variant),
        baseline="baseline",
    )


def _domains() -> StudyConfig:
    only_two = {"evaluation.datasets.jhmdb": None, "evaluation.datasets.a2r": None}
    return StudyConfig(
        rows={"trained_on_a2d": RowConfig("qvim:a2d", {**BASELINE, **only_two}),
              "trained_on_rvos": RowConfig("qvim:rvos", BASELINE)},
        columns={f"{name} {heading}": f"{dataset}/{metric}"
                 for name, dataset in {"A2D": "a2d_test", "RVOS": "rvos_dev"}.items()
                 for heading, metric in {"mAP": "mAP", "mean": "mean_iou"}.items()},
    )


def _paper(variant: str) -> StudyConfig:
    metrics = {**{f"P@{t}": f"precision@{t}" for t in (0.5, 0.6, 0.7, 0.8, 0.9)},
               "mAP": "mAP", "overall": "overall_iou", "mean": "mean_iou"}
    rivals = _compared({})
    rivals |= {f"{name}_backbone": {**rivals[name], "model.compared.place": "backbone"}
               for name in COMPARED}
    return StudyConfig(
        rows=_rows(variant, {**rivals, **FULL, **WITHOUT, **PARTS}),
        columns={f"{task} {heading}": f"{dataset}/{metric}"
                 for task, dataset in TASKS[variant].items()
                 for heading, metric in metrics.items()},
        baseline="baseline",
        endpoint=EndpointConfig(ENDPOINT[variant], "full", tuple(rivals)),
    )


def _columns(variant: str) -> dict[str, str]:
    """Returns the mean IoU on each dataset."""
    if variant == "benchmark":
        return _mean_iou("source", "target", *SHIFTS)
    return {task: f"{dataset}/mean_iou" for task, dataset in TASKS[variant].items()}


def _seeds(variant: str) -> tuple[int, ...]:
    return FRESH[:3] if variant == "benchmark" else StudyConfig.seeds


def _compared(numbers: dict[str, dict], methods: tuple[str, ...] = COMPARED) -> dict[str, dict]:
    """Returns the baseline, and compared methods on it with settings from `numbers`."""
    return {"baseline": BASELINE, **{
        name: {**BASELINE, **{f"model.compared.{key}": value for key, value in
                              {"method": name, **numbers.get(name, {})}.items()}}
        for name in methods
    }}


def _rows(variant: str, rows: dict[str, dict]) -> dict[str, RowConfig]:
    """Returns the rows on `qvim:<variant>`; on the benchmark, with the baseline they start from."""
    config = f"qvim:{variant}"
    if variant != "benchmark":
        return {name: RowConfig(config, rows[name]) for name in rows}
    start = {**BASELINE, "train.steps": 1500, "train.learning_rate": 3e-3}
    starts = {"start": RowConfig(config, start)}
    named = dict.fromkeys(rows, "start")
    if (other := "without_cross_attention") in rows:   # has modules of another shape
        named[other] = f"start_{other}"
        starts[named[other]] = RowConfig(config, {**start, **PARTS[other]})
    return {**starts, **{name: RowConfig(config, rows[name], named[name]) for name in rows}}


def _mean_iou(*datasets: str) -> dict[str, str]:
    return {name: f"{name}/mean_iou" for name in datasets}


VARIANTS = {
    "text": _motions.text, "tuning": _tuning, "methods": _methods, "parts": _parts,
    "layers": functools.partial(_layers, "benchmark"),
    "modalities": functools.partial(_modalities, "benchmark"),
    "recipe": _instances.recipe, "references": _instances.references, "fusion": _instances.fusion,
    "tokens": _instances.tokens, "queries": _instances.queries, "order": _instances.order,
    "weight": _instances.weight, "audio": _instances.audio,
    "audio_references": functools.partial(_instances.audio, (1, 2, 3, 4, 5)),
    "audio_which": _instances.audio_which,
    "adaptation": _adaptation.look_alikes, "adaptation_ovis": _adaptation.ovis,
    "adaptation_davis": _adaptation.davis,
    **{variant: functools.partial(_paper, variant) for variant in TASKS},
    **{f"{variant}_layers": functools.partial(_layers, variant) for variant in TASKS},
    **{f"{variant}_modalities": functools.partial(_modalities, variant) for variant in TASKS},
    "domains": _domains, "cvls_modules": _motions.cvls_modules, "mmvt_steps": _motions.mmvt_steps,
    "mmvt_colors": _motions.mmvt_colors,
}
