"""fusebn in Python, as far as peers.py needs it: ctypes over the library that peer.cpp makes, and a shared library of
kernels that `fusebn build` made."""

import ctypes
import pathlib

import numpy


class Shape(ctypes.Structure):
    _fields_ = [("nhwc", ctypes.c_int32), ("extents", ctypes.c_int64 * 4)]


class Call(ctypes.Structure):
    _fields_ = [("layer", ctypes.c_void_p), ("other", ctypes.c_void_p), ("shape", Shape), ("x", ctypes.c_void_p),
                ("x_other", ctypes.c_void_p)]


def address(array):
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def aligned(array):
    """A copy that starts on a cache line, as PyTorch's and JAX's own tensors do; numpy's start anywhere, and a y that
    does not is not streamed."""
    memory = numpy.zeros(array.nbytes + 64, numpy.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start:start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Fusebn:
    name = "fusebn"

    def __init__(self, library, kernels, threads):
        """`library` is peer.cpp's, `kernels` the path of lib<name>.so."""
        self.library, self.kernels = ctypes.CDLL(library), ctypes.CDLL(kernels)
        table = pathlib.Path(kernels).stem.removeprefix("lib") + "_kernel_table"
        self.table = ctypes.addressof(ctypes.c_char.in_dll(self.kernels, table))
        pointer, integer, floats = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)
        for function, result, arguments in [
            ("error", ctypes.c_char_p, []),
            ("last_kernel", ctypes.c_char_p, []),
            ("set_threads", integer, [integer]),
            ("create", pointer, [pointer, integer, ctypes.c_char_p] + 4 * [pointer]),
            ("destroy", None, [pointer]),
            ("train", None, [pointer, integer]),
            ("forward", integer, [ctypes.POINTER(Call), pointer]),
            ("backward", integer, [ctypes.POINTER(Call)] + 3 * [pointer]),
            ("dgamma", floats, [pointer]),
            ("dbeta", floats, [pointer]),
        ]:
            entry = getattr(self.library, f"fusebn_peer_{function}")
            entry.restype, entry.argtypes = result, arguments
            setattr(self, function, entry)
        self.checked(self.set_threads(threads))

    def checked(self, code):
        if code != 0:
            raise RuntimeError(self.error().decode())

    def isa(self):
        return self.last_kernel().decode().split(" ")[1]

    def candidates(self, case):
        """Of one form: (its name, a call, the results of a call). Results are in the case's layout."""
        layers = Layers(self, case)
        layers.forward()  # backward wants the statistics; this y goes where dx will
        run, results = (layers.forward, layers.y) if case.op != "backward" else (layers.backward, layers.gradients)
        run()
        kernel = self.last_kernel().decode()
        if kernel.split(" ")[0] != case.kernel:
            raise RuntimeError(f"it ran {kernel}, and not {case.kernel}")
        return [("", run, results)]


class Layers:
    """A layer, or the two of branches that meet, and the tensors, which live as long as this does: the library has
    their addresses only."""

    def __init__(self, library, case):
        self.library, self.data, self.channels, self.layers = library, case.data, case.norm.channels, {}
        # The activation is the first layer's.
        for branch, activation in zip(case.branches, (case.norm.activation, "none")):
            parameters = (address(case.data[k + branch]) for k in ("gamma", "beta", "mean", "var"))
            layer = library.create(library.table, self.channels, activation.encode(), *parameters)
            if layer is None:
                raise RuntimeError(library.error().decode())
            self.layers[branch] = layer
            library.train(layer, case.op != "inference")
        self.out = aligned(numpy.zeros(case.shape, numpy.float32))
        self.other = {"none": None, "add": "residual", "batch_norm": "x2"}[case.norm.residual]
        two = case.op == "backward" and self.other is not None
        self.out_other = aligned(numpy.zeros(case.shape, numpy.float32)) if two else None
        shape = Shape(case.layout == "NHWC", (ctypes.c_int64 * 4)(*case.shape))
        x, x_other, dy = (address(case.data.get(k)) for k in ("x", self.other, "dy"))
        call = ctypes.pointer(Call(self.layers[""], self.layers.get("2"), shape, x, x_other))
        self.forward_arguments = (call, address(self.out))
        self.backward_arguments = (call, dy, address(self.out), address(self.out_other))

    def __del__(self):
        for layer in self.layers.values():
            self.library.destroy(layer)

    def forward(self):
        self.library.checked(self.library.forward(*self.forward_arguments))

    def backward(self):
        self.library.checked(self.library.backward(*self.backward_arguments))

    def y(self):
        return {"y": self.out}

    def gradients(self):
        found = {"dx": self.out}
        if self.other is not None:
            found["d" + self.other] = self.out_other
        for branch, layer in self.layers.items():
            for name, function in (("dgamma", self.library.dgamma), ("dbeta", self.library.dbeta)):
                found[name + branch] = numpy.ctypeslib.as_array(function(layer), (self.channels,)).copy()
        return found
