"""What peers.py measures: an operation on one kind of a network's batch norms, and its tensors."""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "networks"))
import networks  # noqa: E402

PERIOD = 4_194_301  # random numbers of a tensor, again and again: a prime, so that no two channels are alike


@dataclasses.dataclass
class Case:
    op: str
    layout: str
    batch: int
    norm: networks.Norm
    data: dict = dataclasses.field(default_factory=dict)

    @property
    def shape(self):
        n = self.norm
        return ((self.batch, n.rows, n.columns, n.channels) if self.layout == "NHWC"
                else (self.batch, n.channels, n.rows, n.columns))

    @property
    def elements(self):
        return self.batch * self.norm.channels * self.norm.rows * self.norm.columns

    @property
    def name(self):
        return "+".join([self.op] + [word for word in (self.norm.residual, self.norm.activation) if word != "none"])

    @property
    def title(self):
        return f"{self.name} {self.layout} {'x'.join(map(str, self.shape))}"

    @property
    def kernel(self):
        return networks.kernel_name(self.op, self.layout, "f32", self.batch, self.norm)

    @property
    def branches(self):
        """What the names of each batch norm's tensors end in."""
        return ("", "2") if self.norm.residual == "batch_norm" else ("",)

    def folded(self, branch):
        """What inference comes to, scale * x + shift, with the running statistics folded in (in f64) beforehand."""
        import numpy

        gamma, beta, mean, var = (self.data[name + branch].astype(numpy.float64)
                                  for name in ("gamma", "beta", "mean", "var"))
        scale = gamma / numpy.sqrt(var + 1e-5)
        return scale.astype(numpy.float32), (beta - mean * scale).astype(numpy.float32)

    def fill(self):
        """data: x, gamma, beta, mean and var, running ones, of each branch; residual where one is added; dy."""
        import numpy
        from peer_fusebn import aligned

        random = numpy.random.default_rng(1)

        def tensor():
            return numpy.resize(random.standard_normal(min(PERIOD, self.elements), dtype=numpy.float32), self.shape)

        def channels(low, high):
            return random.uniform(low, high, self.norm.channels).astype(numpy.float32)

        data = {}
        for branch in self.branches:
            data |= {"x" + branch: tensor() * numpy.float32(1.5) + numpy.float32(0.5),
                     "gamma" + branch: channels(0.5, 1.5), "beta" + branch: channels(-0.5, 0.5),
                     "mean" + branch: channels(-1, 1), "var" + branch: channels(0.5, 4)}
        if self.norm.residual == "add":
            data["residual"] = tensor()
        if self.op == "backward":
            data["dy"] = tensor()
        self.data = {name: aligned(array) for name, array in data.items()}


def all_cases(arguments):
    return [Case(op, layout, batch, norm)
            for layout in arguments.layouts for batch in arguments.batches for op in arguments.ops
            for norm in networks.distinct(arguments.networks)]
