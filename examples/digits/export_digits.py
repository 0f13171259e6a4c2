#!/usr/bin/env python3
"""Writes digits.csv, the 8x8 handwritten digits that scikit-learn carries, with a fixed split.

    python3 export_digits.py        needs scikit-learn

digits.csv is in the repository; this is how it was made. One row an image, in the order of load_digits():

    set,label,p0,...,p63            set: train (1437 rows) or test (360); label: 0..9; p: 0..16, row by row

The split is stratified: every digit has the same share of both sets. Drawn once with random_state 0.
"""

import csv
import pathlib

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

TEST_IMAGES = 360


def main() -> None:
    digits = load_digits()
    pixels = digits.data.astype(int)
    if (pixels != digits.data).any() or pixels.min() != 0 or pixels.max() != 16:
        raise SystemExit("load_digits() has changed: expected whole numbers from 0 to 16")
    rows = range(len(pixels))
    _, test = train_test_split(rows, test_size=TEST_IMAGES, stratify=digits.target, random_state=0)
    test = set(test)

    path = pathlib.Path(__file__).with_name("digits.csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "label", *(f"p{i}" for i in range(pixels.shape[1]))])
        for row in rows:
            writer.writerow(["test" if row in test else "train", digits.target[row], *pixels[row]])
    print(f"{path}: {len(pixels)} images, {len(test)} of them for the test")


if __name__ == "__main__":
    main()
