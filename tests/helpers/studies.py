"""Small studies, and a stand-in for their training."""

from vseg_jax.settings import RowConfig, StudyConfig

STUDY = StudyConfig(
    rows={"plain": RowConfig("plain.py"), "better": RowConfig("better.py", {"model.gain": 0.25})},
    columns={"IoU": "test/iou"}, seeds=(0, 1, 2), baseline="plain",
)
WARM = StudyConfig(
    rows={"plain": RowConfig("plain.py", init_from="warmup"),
          "better": RowConfig("better.py", {"model.gain": 0.25}, init_from="warmup"),
          "warmup": RowConfig("warmup.py", {"train.steps": 10})},
    columns=STUDY.columns, seeds=(0, 1), baseline="plain",
)


class Runs:
    """Stands in for training: an IoU that follows from row and seed; may be killed in a cell.

    `trained` collects the cells that are run, and `evaluated` those of rows that do not train.
    """

    def __init__(self, killed_at=None):
        self.trained, self.evaluated, self.starts, self.killed_at = [], [], [], killed_at

    def __call__(self, config, changes, folder, trains):
        def start():
            if len(self.trained) == self.killed_at:
                (folder / "metrics.json").write_text("{}")   # of an incomplete run
                raise KeyboardInterrupt
            cell = config, int(changes["train.seed"])
            self.trained.append(cell)
            self.evaluated += [] if trains else [cell]
            self.starts.append(changes.get("init_from"))
            seed = int(changes["train.seed"])
            gain = float(changes.get("model.gain", 0))
            return {"test": {"iou": 0.5 + gain + 0.01 * seed * (1 + gain), "preserved": None}}

        return {"config": config, **changes}, start
