// A row of gpu_shapes as a layer with its tensors, on any device.
#pragma once

#include <fusebn/batch_norm.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fail.h"

using Bytes = std::vector<std::uint8_t>;

struct Row {
    std::string name;
    fusebn::Op op;
    fusebn::DataType dtype;
    fusebn::Layout layout;  // NCHW or NHWC
    fusebn::Extents extents;
    int channels;
    std::size_t elements;
};

// All rows of gpu_shapes whose name has `part` in it, in the library's order; generic kernels are none.
std::vector<Row> rows(const std::string& part);
// Of these the smallest of each operation, layout and type.
std::vector<Row> smallest_of_each(const std::vector<Row>& all);

// x and dy of a row, other values everywhere. The reference holds until the next call.
struct Values {
    Bytes x, dy;
};
const Values& values(const Row& row);

// A tensor's memory, of the host or a device.
struct Memory {
    fusebn::DeviceMemory memory;
    Memory(fusebn::Device device, std::size_t bytes) : memory(device, bytes) { require(memory.status()); }
    void upload(const Bytes& from) { require(memory.upload(from.data(), from.size())); }
    Bytes download() const {
        Bytes all(memory.bytes());
        require(memory.download(all.data(), all.size()));
        return all;
    }
};

fusebn::BatchNormOptions layer_options(fusebn::Device device);
fusebn::Tensor tensor_of(const Row& row, const Memory& memory);

// One layer and its tensors on one device. Backward: after a forward call.
class Layer {
public:
    Layer(const Row& row, fusebn::Device device, const Values& values);
    void call();
    // Has all that a call needs made ready, and what follows queued on `stream`.
    void prepare_on(void* stream);
    // All that the call leaves, as bytes; `with_running`: the running statistics too, which go on call after call.
    Bytes result(bool with_running = false);
    const void* x() const { return x_.memory.data(); }
    void* out() const { return out_.memory.data(); }

private:
    const Row row_;
    fusebn::BatchNorm2d bn_;
    Memory x_, dy_, out_;
};
