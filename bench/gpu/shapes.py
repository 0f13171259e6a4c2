#!/usr/bin/env python3
"""Writes the spec of the GPU benchmark's library: ResNet-50's batch norms with ReLU at N = 256, every operation."""
SAMPLES = 256
shapes = [(64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28), (256, 28), (256, 14), (1024, 14), (512, 14),
          (512, 7), (2048, 7)]  # channels, rows and columns


def main():
    print('name = "gpu_shapes"\ntargets = ["x86-64-avx2", "cuda-sm_80", "cuda-sm_90"]')
    for dtype in ("f32", "bf16"):
        for layout in ("NCHW", "NHWC"):
            for c, s in shapes:
                extents = [SAMPLES, c, s, s] if layout == "NCHW" else [SAMPLES, s, s, c]
                print(f'\n[[kernel]]\nop = ["inference", "train_forward", "backward"]\ndtype = "{dtype}"\n'
                      f'layout = "{layout}"\nshape = {extents}\nactivation = "relu"')


if __name__ == "__main__":
    main()
