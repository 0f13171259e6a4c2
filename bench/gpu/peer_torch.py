#!/usr/bin/env python3
"""PyTorch's batch norm and ReLU (eager: cuDNN or its own kernels) at the GPU benchmark's shapes, one JSON line each."""
import json

import torch
import torch.nn.functional as F

shapes = [(64, 112), (64, 56), (256, 56), (128, 56), (128, 28), (512, 28), (256, 28), (256, 14), (1024, 14), (512, 14),
          (512, 7), (2048, 7)]
torch.backends.cudnn.benchmark = True


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


print(json.dumps({"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
                  "device": torch.cuda.get_device_name()}))
for dtype, name in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
    for layout in ("NCHW", "NHWC"):
        for c, s in shapes:
            memory = torch.channels_last if layout == "NHWC" else torch.contiguous_format
            x = torch.randn(256, c, s, s, device="cuda", dtype=dtype).contiguous(memory_format=memory)
            gamma, beta = torch.ones(c, device="cuda"), torch.zeros(c, device="cuda")
            mean, var = torch.zeros(c, device="cuda"), torch.ones(c, device="cuda")
            with torch.no_grad():
                inference = microseconds(lambda: torch.relu_(F.batch_norm(x, mean, var, gamma, beta, False, 0.1, 1e-5)))
                train = microseconds(lambda: torch.relu_(F.batch_norm(x, mean, var, gamma, beta, True, 0.1, 1e-5)))
            leaves = [t.detach().clone().requires_grad_(True) for t in (gamma, beta)]
            xr = x.detach().requires_grad_(True)
            y = torch.relu(F.batch_norm(xr, mean, var, *leaves, True, 0.1, 1e-5))
            dy = torch.randn_like(y)
            backward = microseconds(lambda: torch.autograd.grad(y, (xr, *leaves), dy, retain_graph=True))
            print(json.dumps({"dtype": name, "layout": layout, "channels": c, "spatial": s * s, "inference": inference,
                              "train_forward": train, "backward": backward}), flush=True)
            del x, xr, y, dy
