#!/usr/bin/env python3
"""PyTorch's batch norm and ReLU at the GPU benchmark's shapes, one JSON line each: eager (cuDNN or its own kernels),
then compiled (torch.compile), as many shapes as the seconds allow.

    peer_torch.py [--compiled-seconds SECONDS] > torch.jsonl

Times are microseconds of a call, of many one after the other, by CUDA events."""
import argparse
import json
import time

import torch
import torch.nn.functional as F

from shapes import SAMPLES, shapes

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def microseconds(call, repeat=20):
    for _ in range(3):
        call()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(repeat):
        call()
    end.record()
    torch.cuda.synchronize()
    return round(begin.elapsed_time(end) * 1000 / repeat, 1)


def batch_norm_relu(x, mean, var, gamma, beta, training):
    return torch.relu(F.batch_norm(x, mean, var, gamma, beta, training, 0.1, 1e-5))


def batch_norm_relu_in_place(x, mean, var, gamma, beta, training):
    """What eager inference would be written as: no second tensor."""
    return torch.relu_(F.batch_norm(x, mean, var, gamma, beta, training, 0.1, 1e-5))


def times(dtype, layout, channels, size, without_gradient, with_gradient):
    memory = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    x = torch.randn(SAMPLES, channels, size, size, device="cuda", dtype=DTYPES[dtype]).contiguous(memory_format=memory)
    gamma, beta = torch.ones(channels, device="cuda"), torch.zeros(channels, device="cuda")
    mean, var = torch.zeros(channels, device="cuda"), torch.ones(channels, device="cuda")
    with torch.no_grad():
        inference = microseconds(lambda: without_gradient(x, mean, var, gamma, beta, False))
        train = microseconds(lambda: without_gradient(x, mean, var, gamma, beta, True))
    leaves = [t.detach().clone().requires_grad_(True) for t in (gamma, beta)]
    xr = x.detach().requires_grad_(True)
    y = with_gradient(xr, mean, var, *leaves, True)
    dy = torch.randn_like(y)
    backward = microseconds(lambda: torch.autograd.grad(y, (xr, *leaves), dy, retain_graph=True))
    return {"dtype": dtype, "layout": layout, "channels": channels, "spatial": size * size, "inference": inference,
            "train_forward": train, "backward": backward}


def compiled_times(*row):
    torch._dynamo.reset()  # each shape is compiled for itself, none by a limit of recompilations left to eager
    function = torch.compile(batch_norm_relu, dynamic=False, fullgraph=True)
    return times(*row, function, function) | {"compiled": True}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiled-seconds", type=float, default=180, help="0: eager alone (default: 180)")
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
                      "device": torch.cuda.get_device_name()}), flush=True)
    rows = [(dtype, layout, c, s) for dtype in DTYPES for layout in ("NCHW", "NHWC") for c, s in shapes]
    for row in rows:
        print(json.dumps(times(*row, batch_norm_relu_in_place, batch_norm_relu)), flush=True)
    # backward is called many times on one forward call, whose tensors must stay.
    torch._functorch.config.donated_buffer = False
    end = time.monotonic() + arguments.compiled_seconds
    for row in rows:
        if time.monotonic() > end:
            break
        try:
            print(json.dumps(compiled_times(*row)), flush=True)
        except Exception as e:  # of the compiler, whatever it is: no Triton or no C compiler, for one
            print(json.dumps({"compiled": False, "failure": f"{type(e).__name__}: {e}"[:500]}), flush=True)
            break


if __name__ == "__main__":
    main()
