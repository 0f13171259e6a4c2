"""PyTorch, eager and compiled.

Forward runs without autograd, and eager additions and activations work in place on what batch_norm returned: its
fastest form. NHWC is its channels_last memory format. Branches that meet are two batch norms, an addition and an
activation. backward is autograd's of the same layer, for everything that fusebn gives gradients of; its forward pass is
not timed. Compiled code may not free what the forward pass saved (`donated_buffer`), as backward runs on it again and
again.

What a call returns is new memory, which the allocator hands out again from the call before (peers.sh sets it up so)."""

import functools

import torch
import torch._functorch.config
import torch.nn.functional as F

ACTIVATIONS = {"none": lambda y: y, "relu": F.relu, "relu6": F.relu6, "silu": F.silu}
IN_PLACE = {"none": lambda y: y, "relu": torch.relu_, "relu6": functools.partial(F.relu6, inplace=True),
            "silu": functools.partial(F.silu, inplace=True)}
BRANCH = ("x", "gamma", "beta", "mean", "var")


def layer_of(case, in_place):
    """Of a case's kind: a function of its tensors, BRANCH of each branch and the residual where there is one."""
    activate = (IN_PLACE if in_place else ACTIVATIONS)[case.norm.activation]
    add = torch.Tensor.add_ if in_place else torch.add
    residual, training = case.norm.residual, case.op != "inference"

    def batch_norm(x, gamma, beta, mean, var):
        return F.batch_norm(x, mean, var, gamma, beta, training=training, momentum=0.1, eps=1e-5)

    def layer(*tensors):
        y = batch_norm(*tensors[:5])
        if residual == "add":
            y = add(y, tensors[5])
        elif residual == "batch_norm":
            y = add(y, batch_norm(*tensors[5:]))
        return activate(y)

    return layer


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

    def function(self, case, in_place):
        if not self.compiled:
            return layer_of(case, in_place)
        torch._dynamo.reset()  # a graph for each case, none for a case of any shape
        return torch.compile(layer_of(case, False), dynamic=False, fullgraph=True)

    def candidates(self, case):
        last = case.layout == "NHWC"

        def tensor_of(name):
            t = torch.from_numpy(case.data[name])
            return t.permute(0, 3, 1, 2) if last and t.dim() == 4 else t

        def array_of(t):
            t = t.detach()
            return (t.permute(0, 2, 3, 1) if last and t.dim() == 4 else t).contiguous().numpy()

        names = [name + branch for branch in case.branches for name in BRANCH]
        names += ["residual"] if case.norm.residual == "add" else []
        tensors = {name: tensor_of(name) for name in names}
        for branch in case.branches:  # which training changes
            for name in ("mean", "var"):
                tensors[name + branch] = tensors[name + branch].clone()
        kept = {}

        if case.op != "backward":
            function = self.function(case, True)

            def forward():
                with torch.no_grad():
                    kept["y"] = function(*tensors.values())

            return [("", forward, lambda: {"y": array_of(kept["y"])})]

        wanted = [name for name in names if not name.startswith(("mean", "var"))]
        inputs, dy = [tensors[name].requires_grad_() for name in wanted], tensor_of("dy")
        y = self.function(case, False)(*tensors.values())

        def backward():
            kept["gradients"] = torch.autograd.grad(y, inputs, dy, retain_graph=True)

        return [("", backward, lambda: {"d" + k: array_of(g) for k, g in zip(wanted, kept["gradients"])})]
