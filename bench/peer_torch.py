"""PyTorch, eager and compiled.

Forward runs without autograd, and eager additions and ReLUs work in place: its fastest form. NHWC is its channels_last
memory format. backward is autograd's of the same layer; its forward pass is not timed. Compiled code may not free what
the forward pass saved (`donated_buffer`), as backward runs on it again and again.

What a call returns is new memory, which the allocator hands out again from the call before (peers.sh sets it up so)."""

import torch
import torch._functorch.config
import torch.nn.functional as F


def layer(x, gamma, beta, mean, var, residual, training):
    y = F.batch_norm(x, mean, var, gamma, beta, training=training, momentum=0.1, eps=1e-5)
    return F.relu(y if residual is None else y + residual)


def layer_in_place(x, gamma, beta, mean, var, residual, training):
    y = F.batch_norm(x, mean, var, gamma, beta, training=training, momentum=0.1, eps=1e-5)
    return (y if residual is None else y.add_(residual)).relu_()


class Torch:
    def __init__(self, compiled, threads):
        self.name = "torch.compile" if compiled else "PyTorch"
        self.compiled = compiled
        torch.set_num_threads(threads)
        if compiled:
            torch._functorch.config.donated_buffer = False

    @staticmethod
    def version():
        return f"PyTorch {torch.__version__}"

    def function(self, plain):
        if not self.compiled:
            return plain
        torch._dynamo.reset()  # a graph for each case, none for a case of any shape
        return torch.compile(layer, dynamic=False, fullgraph=True)

    def candidates(self, case):
        last = case.layout == "NHWC"

        def tensor_of(name):
            if name not in case.data:
                return None
            t = torch.from_numpy(case.data[name])
            return t.permute(0, 3, 1, 2) if last and t.dim() == 4 else t

        def array_of(t):
            t = t.detach()
            return (t.permute(0, 2, 3, 1) if last and t.dim() == 4 else t).contiguous().numpy().copy()

        x, residual, dy, gamma, beta = (tensor_of(k) for k in ("x", "residual", "dy", "gamma", "beta"))
        mean, var = tensor_of("mean").clone(), tensor_of("var").clone()  # which training changes
        kept = {}

        if case.op != "backward":
            function = self.function(layer_in_place)

            def forward():
                with torch.no_grad():
                    kept["y"] = function(x, gamma, beta, mean, var, residual, case.op == "train_forward")

            return [("", forward, lambda: {"y": array_of(kept["y"])})]

        inputs = [t.clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, gamma, beta)]
        y = self.function(layer)(*inputs, mean, var, None, True)

        def backward():
            kept["gradients"] = torch.autograd.grad(y, inputs, dy, retain_graph=True)

        return [("", backward, lambda: dict(zip(("dx", "dgamma", "dbeta"), map(array_of, kept["gradients"]))))]
