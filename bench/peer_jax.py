"""JAX: jax.jit of the layer as one writes it. Its two usual forms of the variance are both tried, and the faster one
competes: jnp.var, and E[x^2] - E[x]^2 (Flax's default), which loses its digits where the mean is large. backward is
jax.vjp of both, with the forward pass's residuals as arguments, or the formula written out, whichever is fastest; the
forward pass is not timed. Arguments are on the device before, and a call ends when its results are ready."""

import jax
import jax.numpy as jnp
import numpy

ACTIVATIONS = {"none": lambda y: y, "relu": jax.nn.relu, "relu6": jax.nn.relu6, "silu": jax.nn.silu}
FORMS = {"jnp.var": False, "E[x^2]": True}


class Layer:
    """Functions of a case's arrays by their names (Case.fill)."""

    def __init__(self, case):
        self.axes = (0, 1, 2) if case.layout == "NHWC" else (0, 2, 3)
        self.count = case.elements // case.norm.channels
        self.branches, self.residual = case.branches, case.norm.residual
        self.activate = ACTIVATIONS[case.norm.activation]

    def statistics(self, p, fast):
        found = {}
        for b in self.branches:
            x = p["x" + b]
            mean = found["mean" + b] = jnp.mean(x, self.axes, keepdims=True)
            found["var" + b] = (jnp.maximum(jnp.mean(jnp.square(x), self.axes, keepdims=True) - jnp.square(mean), 0)
                                if fast else jnp.var(x, self.axes, keepdims=True))
        return found

    def sum(self, p, statistics):
        """What the activation is given."""
        terms = [(p["x" + b] - statistics["mean" + b]) * (jax.lax.rsqrt(statistics["var" + b] + 1e-5) * p["gamma" + b])
                 + p["beta" + b] for b in self.branches]
        return sum(terms[1:], terms[0]) + (p["residual"] if self.residual == "add" else 0)

    def inference(self, p, running):
        return self.activate(self.sum(p, running))

    def train(self, fast):
        def function(p, running):
            found = self.statistics(p, fast)
            factors = {k: self.count / (self.count - 1) if k.startswith("var") else 1 for k in found}
            updated = {k: 0.9 * running[k] + 0.1 * factors[k] * found[k] for k in found}
            return self.activate(self.sum(p, found)), updated
        return function

    def forward(self, fast):
        return lambda p: self.activate(self.sum(p, self.statistics(p, fast)))

    def formula(self, p, dy, mean_and_inv_std):
        hats = {b: (p["x" + b] - mean_and_inv_std["mean" + b]) * mean_and_inv_std["inv_std" + b] for b in self.branches}
        z = sum(p["gamma" + b] * hats[b] + p["beta" + b] for b in self.branches)
        z = z + p["residual"] if self.residual == "add" else z
        (g,) = jax.vjp(self.activate, z)[1](dy)
        found = {"residual": g} if self.residual == "add" else {}
        for b, hat in hats.items():
            dbeta, dgamma = jnp.sum(g, self.axes, keepdims=True), jnp.sum(g * hat, self.axes, keepdims=True)
            scale = p["gamma" + b] * mean_and_inv_std["inv_std" + b]
            found |= {"x" + b: scale * (g - dbeta / self.count - hat * (dgamma / self.count)), "gamma" + b: dgamma,
                      "beta" + b: dbeta}
        return found


class Jax:
    name = "JAX"

    def __init__(self):
        jax.config.update("jax_platforms", "cpu")

    @staticmethod
    def version():
        return f"JAX {jax.__version__}"

    def candidates(self, case):
        layer = Layer(case)
        channels = (1, 1, 1, -1) if case.layout == "NHWC" else (1, -1, 1, 1)
        arrays = {k: jnp.asarray(a.reshape(channels) if a.ndim == 1 else a) for k, a in case.data.items()}
        dy = arrays.pop("dy", None)
        running = {k: arrays.pop(k) for k in list(arrays) if k.startswith(("mean", "var"))}

        def candidate(name, function, arguments, results):
            compiled, kept = jax.jit(function), {}

            def run():
                kept["out"] = jax.block_until_ready(compiled(*arguments))

            return name, run, lambda: {k: numpy.asarray(v) for k, v in results(kept["out"]).items()}

        if case.op == "inference":
            return [candidate("", layer.inference, (arrays, running), lambda y: {"y": y})]
        if case.op == "train_forward":
            return [candidate(name, layer.train(fast), (arrays, running), lambda out: {"y": out[0]})
                    for name, fast in FORMS.items()]

        def gradients(found):
            return {"d" + k: v.reshape(-1) if k.startswith(("gamma", "beta")) else v for k, v in found.items()}

        candidates = []
        for name, fast in FORMS.items():
            _, pull_back = jax.jit(lambda p, forward=layer.forward(fast): jax.vjp(forward, p))(arrays)
            candidates.append(candidate(f"vjp, {name}", lambda pull, dy: pull(dy)[0], (pull_back, dy), gradients))
        kept = layer.statistics(arrays, False)
        kept = {k.replace("var", "inv_std"): v if k.startswith("mean") else jax.lax.rsqrt(v + 1e-5)
                for k, v in kept.items()}
        candidates.append(candidate("formula", layer.formula, (arrays, dy, kept), gradients))
        return candidates
