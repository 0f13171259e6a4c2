"""fusebn in Python, as far as peers.py needs it: ctypes over the library that peer.cpp makes."""

import ctypes

import numpy


class Shape(ctypes.Structure):
    _fields_ = [("nhwc", ctypes.c_int32), ("extents", ctypes.c_int64 * 4)]


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

    def __init__(self, library, threads):
        self.library = ctypes.CDLL(library)
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        for function, result, arguments in [
            ("error", ctypes.c_char_p, []),
            ("last_kernel", ctypes.c_char_p, []),
            ("set_threads", integer, [integer]),
            ("create", pointer, [integer] + 4 * [pointer]),
            ("destroy", None, [pointer]),
            ("train", None, [pointer, integer]),
            ("forward", integer, 5 * [pointer]),
            ("backward", integer, 5 * [pointer]),
            ("dgamma", ctypes.POINTER(ctypes.c_float), [pointer]),
            ("dbeta", ctypes.POINTER(ctypes.c_float), [pointer]),
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
        call = Call(self, case)
        if case.op != "backward":
            return [("", call.forward, lambda: {"y": call.out.copy()})]
        call.forward()  # for the statistics; its y goes where dx will
        return [("", call.backward, call.gradients)]


class Call:
    """A layer and its tensors, which live as long as this does: the library has their addresses only."""

    def __init__(self, library, case):
        self.library, self.data = library, case.data
        self.channels = case.channels
        self.layer = library.create(case.channels, *(address(case.data[k]) for k in ("gamma", "beta", "mean", "var")))
        if self.layer is None:
            raise RuntimeError(library.error().decode())
        library.train(self.layer, case.op != "inference")
        self.out = aligned(numpy.zeros(case.shape, numpy.float32))
        shape = Shape(case.layout == "NHWC", (ctypes.c_int64 * 4)(*case.shape))
        x, residual, dy = (address(case.data.get(k)) for k in ("x", "residual", "dy"))
        self.forward_arguments = (self.layer, ctypes.pointer(shape), x, residual, address(self.out))
        self.backward_arguments = (self.layer, ctypes.pointer(shape), x, dy, address(self.out))

    def __del__(self):
        if getattr(self, "layer", None) is not None:
            self.library.destroy(self.layer)

    def forward(self):
        self.library.checked(self.library.forward(*self.forward_arguments))

    def backward(self):
        self.library.checked(self.library.backward(*self.backward_arguments))

    def gradients(self):
        sums = {k: numpy.ctypeslib.as_array(f(self.layer), (self.channels,)).copy()
                for k, f in (("dgamma", self.library.dgamma), ("dbeta", self.library.dbeta))}
        return {"dx": self.out.copy(), **sums}
