#!/usr/bin/env python3
"""Writes the spec of the GPU benchmark's library: ResNet-50's batch norms with ReLU at N = 256, every operation."""
shapes = [(64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28), (256, 28), (256, 14), (1024, 14), (512, 14),
          (512, 7), (2048, 7)]

print('name = "gpu_shapes"\ntargets = ["x86-64-avx2", "cuda-sm_80", "cuda-sm_90"]')
for dtype in ("f32", "bf16"):
    for layout in ("NCHW", "NHWC"):
        for c, s in shapes:
            extents = [256, c, s, s] if layout == "NCHW" else [256, s, s, c]
            print(f'\n[[kernel]]\nop = ["inference", "train_forward", "backward"]\ndtype = "{dtype}"\nlayout = "{layout}"\n'
                  f'shape = {extents}\nactivation = "relu"')
