"""The categories of video instance segmentation datasets, those shared with COCO, and COCO's own.

Names are spelled as in the official annotation files, in order of their ids from 1. The numbers in
both tables are as in MinVIS and VITA, public loaders of these datasets; RCF's paper trains on "the
overlapping COCO classes" and does not list them.
"""

from __future__ import annotations

OFFICIAL = {
    "youtube_vis_2019": (
        "person", "giant_panda", "lizard", "parrot", "skateboard", "sedan", "ape", "dog", "snake",
        "monkey", "hand", "rabbit", "duck", "cat", "cow", "fish", "train", "horse", "turtle",
        "bear", "motorbike", "giraffe", "leopard", "fox", "deer", "owl", "surfboard", "airplane",
        "truck", "zebra", "tiger", "elephant", "snowboard", "boat", "shark", "mouse", "frog",
        "eagle", "earless_seal", "tennis_racket",
    ),
    "youtube_vis_2021": (
        "airplane", "bear", "bird", "boat", "car", "cat", "cow", "deer", "dog", "duck",
        "earless_seal", "elephant", "fish", "flying_disc", "fox", "frog", "giant_panda", "giraffe",
        "horse", "leopard", "lizard", "monkey", "motorbike", "mouse", "parrot", "person", "rabbit",
        "shark", "skateboard", "snake", "snowboard", "squirrel", "surfboard", "tennis_racket",
        "tiger", "train", "truck", "turtle", "whale", "zebra",
    ),
    "ovis": (
        "Person", "Bird", "Cat", "Dog", "Horse", "Sheep", "Cow", "Elephant", "Bear", "Zebra",
        "Giraffe", "Poultry", "Giant_panda", "Lizard", "Parrot", "Monkey", "Rabbit", "Tiger",
        "Fish", "Turtle", "Bicycle", "Motorcycle", "Airplane", "Boat", "Vehical",
    ),
}

# COCO's id of a category -> the id in the dataset.
_FROM_COCO = {
    "youtube_vis_2019": {
        1: 1, 2: 21, 3: 6, 4: 21, 5: 28, 7: 17, 8: 29, 9: 34, 17: 14, 18: 8, 19: 18, 21: 15,
        22: 32, 23: 20, 24: 30, 25: 22, 35: 33, 36: 33, 41: 5, 42: 27, 43: 40,
    },
    "youtube_vis_2021": {
        1: 26, 2: 23, 3: 5, 4: 23, 5: 1, 7: 36, 8: 37, 9: 4, 16: 3, 17: 6, 18: 9, 19: 19, 21: 7,
        22: 12, 23: 2, 24: 40, 25: 18, 34: 14, 35: 31, 36: 31, 41: 29, 42: 33, 43: 34,
    },
    "ovis": {
        1: 1, 2: 21, 3: 25, 4: 22, 5: 23, 6: 25, 8: 25, 9: 24, 17: 3, 18: 4, 19: 5, 20: 6, 21: 7,
        22: 8, 23: 9, 24: 10, 25: 11,
    },
}


# COCO's own categories by their ids, which have gaps.
COCO = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train",
    8: "truck", 9: "boat", 10: "traffic light", 11: "fire hydrant", 13: "stop sign",
    14: "parking meter", 15: "bench", 16: "bird", 17: "cat", 18: "dog", 19: "horse", 20: "sheep",
    21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe", 27: "backpack",
    28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove",
    41: "skateboard", 42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass",
    47: "cup", 48: "fork", 49: "knife", 50: "spoon", 51: "bowl", 52: "banana", 53: "apple",
    54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot", 58: "hot dog", 59: "pizza",
    60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote",
    76: "keyboard", 77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink",
    82: "refrigerator", 84: "book", 85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear",
    89: "hair drier", 90: "toothbrush",
}


def from_coco(dataset: str) -> dict[int, str]:
    """Returns {COCO's id of a category: its name in `dataset`}, `dataset` a key of `OFFICIAL`.

    "all" returns COCO's own 80 categories. For YouTube-VIS bicycles are motorbikes, skis are
    snowboards, and so on. Categories of COCO that the dataset lacks are left out.
    """
    if dataset == "all":
        return dict(COCO)
    return {coco: OFFICIAL[dataset][k - 1] for coco, k in _FROM_COCO[dataset].items()}
