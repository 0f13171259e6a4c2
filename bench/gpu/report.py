#!/usr/bin/env python3
"""A table from the GPU benchmark's lines and PyTorch's: report.py FUSEBN.jsonl [TORCH.jsonl] > table.md"""
import json
import math
import re
import sys

rows = [json.loads(line) for line in open(sys.argv[1]) if line.startswith("{")]
peers = {}
for line in open(sys.argv[2]) if len(sys.argv) > 2 else []:
    row = json.loads(line) if line.startswith("{") else {}
    if "dtype" in row:
        for op in ("inference", "train_forward", "backward"):
            peers[row["dtype"], row["layout"], row["channels"], row["spatial"], op] = row[op]

name = re.compile(r"bn_(\w+?)_(f32|bf16)_(?:planar_n256_c(\d+)_s(\d+)|interleaved_r(\d+)_c(\d+))_relu")
print("| operation | type | layout | channels x spatial | us | cold | of a copy | cold | launches | PyTorch / fusebn |")
print("|---|---|---|---|--:|--:|--:|--:|---|--:|")
means = {}
for row in rows:
    op, dtype, c, s, r, c2 = name.fullmatch(row["kernel"]).groups()
    layout, channels = ("NCHW", int(c)) if c else ("NHWC", int(c2))
    spatial = int(s) if c else int(r) // 256
    peer = peers.get((dtype, layout, channels, spatial, op))
    ratio = peer / row["us"] if peer else None
    means.setdefault((op, dtype, layout), []).append((ratio or math.nan, row["share_of_copy"]))
    slabs = "slabs in shared memory" if "parallel=channels" in row["ran"] else ""
    print(f"| {op} | {dtype} | {layout} | {channels}x{spatial} | {row['us']} | {row['us_cold']} | "
          f"{row['share_of_copy']:.2f} | {row['share_of_copy_cold']:.2f} | {slabs} | {f'{ratio:.2f}' if ratio else ''} |")
print("\n| operation | type | layout | of a copy: lowest, highest | PyTorch / fusebn: geometric mean, lowest |")
print("|---|---|---|--:|--:|")
for (op, dtype, layout), values in means.items():
    ratios, shares = [v[0] for v in values], [v[1] for v in values]
    mean = math.exp(sum(math.log(v) for v in ratios) / len(ratios))
    print(f"| {op} | {dtype} | {layout} | {min(shares):.2f}, {max(shares):.2f} | {mean:.2f}, {min(ratios):.2f} |")
equal = sum(row["bits_as_cpu"] and row["repeatable"] for row in rows)
print(f"\nBits equal to the CPU's kernels' and from run to run: {equal} of {len(rows)} rows.")
