"""One frame of a record, decoded: its image, mask or flow."""

from __future__ import annotations

import numpy as np

from vseg_jax.input_pipeline.records import (
    Dataset,
    Record,
    check_size,
    decode_flow,
    decode_image,
    decode_mask,
)


def read_frame(dataset: Dataset, record: Record, t: int | np.integer) -> np.ndarray:
    """Returns frame `t` as uint8 [h, w, 3]; errors name dataset, video and frame."""
    where = f"{dataset.name} video {record.video_id} frame {t}"
    rgb = decode_image(record.frames[t], where)
    check_size(rgb, (record.height, record.width), f"the image of {where}")
    return rgb


def read_mask(dataset: Dataset, record: Record, t: int | np.integer) -> np.ndarray:
    """Returns the index mask of frame `t`, uint8 [h, w]; errors name dataset, video and frame."""
    where = f"{dataset.name} video {record.video_id} frame {t}"
    mask = decode_mask(record.masks[t], where)
    check_size(mask, (record.height, record.width), f"the mask of {where}")
    return mask


def read_flow(dataset: Dataset, record: Record, t: int | np.integer) -> np.ndarray:
    """Returns the flow float32 [h, w, 2] from frame `t` to the next; 0 for the last frame.

    Raises:
      ValueError: the record has no flow, or it is damaged; names dataset, video and frame.
    """
    where = f"{dataset.name} video {record.video_id}"
    if not record.flow:
        raise ValueError(
            f"{where} has no optical flow, which the model's motion stream needs; make a copy of "
            "the dataset with flow: vseg flow --prepared <its folder>, or turn the motion stream "
            "off"
        )
    if not record.flow[t]:
        if t < len(record.frames) - 1:
            raise ValueError(
                f"{where} has no flow from frame {t} to {t + 1}, only from others; compute it "
                "again: vseg flow without --around, or with a number that reaches all frames of "
                "the clips (clip.length, clip.stride, clip.stride_max)"
            )
        return np.zeros((record.height, record.width, 2), np.float32)
    flow = decode_flow(record.flow[t], f"{where} frame {t}")
    check_size(flow, (record.height, record.width), f"the flow of {where} frame {t}")
    return flow
