"""Results as `test` writes them, with scores of our choice."""

import math

import numpy as np

from dualpixel.evaluate.result import SCHEMA, Result, result_path, save_result


def made_result(columns, groups=("indoor", "indoor", "outdoor", "outdoor"), **changes):
    """A result with a list of scores per image for each column; the means are those of the images."""
    rows = [
        {"key": f"scene{place:02}", "group": group} | {name: values[place] for name, values in columns.items()}
        for place, group in enumerate(groups)
    ]
    of_group = {"overall": rows} | {
        group: [row for row in rows if row["group"] == group] for group in dict.fromkeys(groups) if group
    }
    means = {
        group: {name: None if None in (part := [row[name] for row in some]) else math.fsum(part) / len(part) for name in columns}
        for group, some in of_group.items()
    }  # fmt: skip
    values = {
        "schema": SCHEMA, "recipe": "dpdnet", "options": {}, "weights_sha256": "0123456789abcdef" * 4, "weights_source": "x.ckpt",
        "dataset": "dpdd", "dataset_version": "1", "split": "test", "fingerprint": "f" * 16, "complete": True,
        "protocol": "dpdnet-16bit", "protocol_description": "whole images", "rows": rows, "means": means, "parameters": 31_035_151,
        "macs": 1_574_299_000_000, "macs_size": [1120, 1680], "code": "0.1.0", "made": "2026-01-01T00:00:00+00:00",
        "environment": {},
    }  # fmt: skip
    return Result(**{**values, **changes})


INDOOR = 37
"""Of the 76 images of DPDD's test split, as its paper has it."""


def photographs(psnr, seed=0, count=76, **changes):
    """A result of `count` images around a PSNR: the images differ by 3 dB whatever the seed, which draws 0.3 dB more."""
    images = np.random.default_rng(99).normal(0, 3, count)
    scores = psnr + images - images.mean() + np.random.default_rng(seed).normal(0, 0.3, count)
    columns = {
        "psnr": scores, "ssim": 0.7 + scores / 500, "mae": 0.06 - scores / 1000, "input_psnr": 23.0 + images,
        "input_ssim": 0.6 + images / 500, "input_mae": 0.05 - images / 1000,
    }  # fmt: skip
    groups = ["indoor" if place < INDOOR * count // 76 else "outdoor" for place in range(count)]
    return made_result({name: values.tolist() for name, values in columns.items()}, groups, **changes)


def save(runs, run, result):
    """Write a result where the run would, and return its path."""
    path = result_path(runs / run, result.dataset, result.split, result.protocol)
    save_result(path, result)
    return path
