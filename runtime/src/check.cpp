#include "check.h"

#include <limits>
#include <string>
#include <string_view>

#include "text.h"

namespace fusebn::detail {
namespace {

constexpr std::int64_t max_stride = std::numeric_limits<std::int32_t>::max();

template <class... Parts>
[[gnu::cold, gnu::noinline]] Status refuse(ErrorCode code, const Parts&... parts) {
    return Status(code, sentence(parts...));
}

bool takes(int dimensions, Layout layout) {
    switch (layout) {
        case Layout::NC:
        case Layout::NCL:
        case Layout::NLC: return dimensions == 1;
        case Layout::NCHW:
        case Layout::NHWC: return dimensions == 2;
        case Layout::NCDHW:
        case Layout::NDHWC: return dimensions == 3;
    }
    return false;
}

std::string_view layouts_of(int dimensions) {
    return dimensions == 1 ? "NC, NCL or NLC" : dimensions == 2 ? "NCHW or NHWC" : "NCDHW or NDHWC";
}

// The layout with the channels at the other place.
Layout counterpart(Layout layout) {
    switch (layout) {
        case Layout::NC: return Layout::NC;
        case Layout::NCL: return Layout::NLC;
        case Layout::NLC: return Layout::NCL;
        case Layout::NCHW: return Layout::NHWC;
        case Layout::NHWC: return Layout::NCHW;
        case Layout::NCDHW: return Layout::NDHWC;
        case Layout::NDHWC: return Layout::NCDHW;
    }
    return layout;
}

Status check_layout(int dimensions, const ConstTensor& x) {
    if (static_cast<int>(x.dtype) < 0 || static_cast<int>(x.dtype) >= static_cast<int>(std::size(dtype_names))) {
        return refuse(ErrorCode::no_kernel, "x: its element type is number ", static_cast<int>(x.dtype),
                      ", which no kernel has; expected f32, bf16 or f16");
    }
    if (!takes(dimensions, x.layout)) {
        return refuse(ErrorCode::wrong_layout, "x: its layout is ", name_of(x.layout), ", but BatchNorm", dimensions,
                      "d takes ", layouts_of(dimensions));
    }
    if (x.extents.rank() != rank(x.layout)) {
        return refuse(ErrorCode::wrong_layout, "x: it has ", x.extents.rank(), " extents ", x.extents, ", but ",
                      to_string(x.layout), " has ", rank(x.layout), "; declare the layout that they are in");
    }
    return Status();
}

Status check_extents(int features, const ConstTensor& x) {
    for (int axis = 0; axis < x.extents.rank(); ++axis) {
        if (x.extents[axis] <= 0) {
            return refuse(ErrorCode::empty_tensor, "x: its extents are ", x.extents,
                          "; every extent must be at least 1");
        }
    }
    const bool planar = view(x.layout) == View::planar;
    const int last = x.extents.rank() - 1;
    const int axis = planar ? 1 : last;
    const int other_axis = planar ? last : 1;
    if (x.extents[axis] != features) {
        if (x.extents[other_axis] == features) {
            return refuse(ErrorCode::wrong_layout, "x: ", to_string(x.layout), " ", x.extents, " has ", x.extents[axis],
                          " channels (extent ", axis, "), but the layer has ", features, " features, and extent ",
                          other_axis, " is ", features, ": declare Layout::", to_string(counterpart(x.layout)));
        }
        return refuse(ErrorCode::shape_mismatch, "x: ", to_string(x.layout), " ", x.extents, " has ", x.extents[axis],
                      " channels (extent ", axis, "), but the layer has ", features, " features");
    }
    for (int i = 0; i < x.extents.rank(); ++i) {
        if (x.extents[i] > max_kernel_extent) {
            return refuse(ErrorCode::too_large, "x: its extents are ", x.extents, "; each may be ", max_kernel_extent,
                          " at most");
        }
    }
    return Status();
}

Status check_same(const ConstTensor& x, const Given& given) {
    const ConstTensor& t = *given.tensor;
    bool same = x.layout == t.layout && x.extents.rank() == t.extents.rank() && x.dtype == t.dtype;
    for (int axis = 0; same && axis < x.extents.rank(); ++axis) same = x.extents[axis] == t.extents[axis];
    if (same) return Status();
    return refuse(ErrorCode::shape_mismatch, given.name, ": it is ", name_of(t.dtype), " ", name_of(t.layout), " ",
                  t.extents, ", but x is ", name_of(x.dtype), " ", to_string(x.layout), " ", x.extents,
                  "; they must be the same");
}

// Multiplies the axes that a view has as one: spatial for planar, batch and spatial for interleaved.
Status collapse(const ConstTensor& x, Shape& shape) {
    shape.view = view(x.layout);
    const bool planar = shape.view == View::planar;
    const int first = planar ? 2 : 0;
    const int last = planar ? rank(x.layout) - 1 : rank(x.layout) - 2;
    std::int64_t product = 1;
    for (int axis = first; axis <= last; ++axis) {
        product *= x.extents[axis];  // both below 2^31
        if (product > max_kernel_extent) {
            return refuse(ErrorCode::too_large, "x: ", to_string(x.layout), " ", x.extents, ": ",
                          planar ? "the spatial extents" : "batch and spatial extents", " multiplied may be ",
                          max_kernel_extent, " at most; split the tensor");
        }
    }
    shape.outer = planar ? x.extents[0] : product;
    shape.channels = x.extents[channel_axis(x.layout)];
    shape.inner = planar ? product : 1;
    if (shape.outer * shape.inner > max_channel_values) {  // both below 2^31
        return refuse(ErrorCode::too_large, "x: ", to_string(x.layout), " ", x.extents, " has ",
                      shape.outer * shape.inner, " values per channel; ", max_channel_values,
                      " are allowed at most; split the tensor");
    }
    return Status();
}

[[gnu::cold, gnu::noinline]] Status refuse_strides(const char* name, const ConstTensor& t, std::string_view expected) {
    return refuse(ErrorCode::unsupported_strides, name, ": its strides are ", t.strides, " for ", to_string(t.layout),
                  " ", t.extents, "; ", expected, "; copy it into a dense tensor first");
}

// Reads the strides of the two views' axes from the tensor's own; an axis of extent 1 has none to speak of.
Status collapse_strides(const char* name, const ConstTensor& t, const Shape& shape, Operand& operand) {
    const int tensor_rank = rank(t.layout);
    if (t.strides.rank() != tensor_rank) {
        return refuse(ErrorCode::unsupported_strides, name, ": it has ", t.strides.rank(), " strides ", t.strides,
                      ", but ", to_string(t.layout), " has ", tensor_rank,
                      " axes; give one each, or none if it is dense");
    }
    if (shape.view == View::planar) {
        std::int64_t dense = 1;
        for (int axis = tensor_rank - 1; axis >= 2; --axis) {
            if (t.extents[axis] == 1) continue;
            if (t.strides[axis] != dense) {
                return refuse_strides(name, t, "the spatial axes must be contiguous, the last with stride 1");
            }
            dense *= t.extents[axis];
        }
        if (shape.channels > 1) operand.channel_stride = t.strides[1];
        if (shape.outer > 1) operand.outer_stride = t.strides[0];
        return Status();
    }
    if (shape.channels > 1 && t.strides[tensor_rank - 1] != 1) {
        return refuse_strides(name, t, "the channels must have stride 1");
    }
    std::int64_t expected = 0;  // of the next axis outwards; 0 while all so far had extent 1
    for (int axis = tensor_rank - 2; axis >= 0; --axis) {
        if (t.extents[axis] == 1) continue;
        if (expected == 0) {
            operand.outer_stride = expected = t.strides[axis];
            if (expected <= 0 || expected > max_stride) break;  // refused below
        } else if (t.strides[axis] != expected) {
            return refuse_strides(name, t, "the rows of channels must be evenly spaced over batch and spatial axes");
        }
        expected *= t.extents[axis];  // at most max_stride times r, which fits
    }
    return Status();
}

Status resolve(const char* name, const ConstTensor& t, const Shape& shape, Operand& operand) {
    operand.data = const_cast<void*>(t.data);
    operand.channel_stride = shape.view == View::planar ? shape.inner : 1;
    operand.outer_stride = shape.channels * shape.inner;
    if (t.strides.rank() != 0) {
        if (Status s = collapse_strides(name, t, shape, operand); !s.ok()) return s;
    }
    // A stride that nothing is multiplied by need not fit.
    if (shape.outer == 1 && operand.outer_stride > max_stride) operand.outer_stride = 0;

    const bool has_channels = shape.channels > 1 && shape.view == View::planar;
    const bool has_outer = shape.outer > 1;
    if ((has_channels && operand.channel_stride <= 0) || (has_outer && operand.outer_stride <= 0)) {
        return refuse_strides(name, t, "every stride must be positive");
    }
    if ((has_channels && operand.channel_stride > max_stride) || (has_outer && operand.outer_stride > max_stride)) {
        return refuse(ErrorCode::too_large, name, ": ", to_string(t.layout), " ", t.extents,
                      t.strides.rank() ? " with strides " : "", t.strides.rank() ? sentence(t.strides) : std::string(),
                      ": its outer strides may be ", max_stride,
                      " elements at most; split it along the batch or the channels");
    }
    // The axes in the order of their strides (n may lie inside c); each must step over all that lies inside it.
    const std::int64_t channel_span = (shape.channels - 1) * operand.channel_stride;
    const std::int64_t outer_span = (shape.outer - 1) * operand.outer_stride;
    const bool outer_is_larger = !has_outer || !has_channels || operand.outer_stride >= operand.channel_stride;
    const std::int64_t row = shape.view == View::planar ? shape.inner : shape.channels;
    const std::int64_t inside_channels = outer_is_larger ? row : outer_span + row;
    const std::int64_t inside_outer = outer_is_larger && has_channels ? channel_span + row : row;
    if ((has_channels && operand.channel_stride < inside_channels) ||
        (has_outer && operand.outer_stride < inside_outer)) {
        return refuse_strides(name, t, "they fold it onto itself: each axis must step over all that lies inside it");
    }
    // Two products below 2^62 and a row: fits.
    operand.last_element = outer_span + (shape.view == View::planar ? channel_span : 0) + row - 1;

    const auto address = reinterpret_cast<std::uintptr_t>(t.data);
    const auto element = static_cast<std::uint64_t>(element_bytes(t.dtype));
    if ((address & (element - 1)) != 0) {  // element is 2 or 4
        return refuse(ErrorCode::misaligned, name, ": its address is no multiple of ", element,
                      ", the size of an element of type ", to_string(t.dtype));
    }
    std::uint64_t bytes = 0;
    std::uintptr_t end = 0;
    if (__builtin_mul_overflow(static_cast<std::uint64_t>(operand.last_element) + 1, element, &bytes) ||
        __builtin_add_overflow(address, bytes, &end)) {
        return refuse(ErrorCode::too_large, name, ": ", to_string(t.layout), " ", t.extents,
                      " runs past the end of memory from its address on; its extents or strides cannot be right");
    }
    return Status();
}

}  // namespace

Status check_call(int dimensions, int features, const Given* given, int count, Call& call) {
    for (const Given* g = given; g != given + count; ++g) {
        if (g->tensor->data == nullptr) {
            return refuse(ErrorCode::null_pointer, g->name, ": its data is null; expected the tensor's address");
        }
    }
    const ConstTensor& x = *given[0].tensor;
    if (Status s = check_layout(dimensions, x); !s.ok()) return s;
    if (Status s = check_extents(features, x); !s.ok()) return s;
    for (const Given* g = given + 1; g != given + count; ++g) {
        if (Status s = check_same(x, *g); !s.ok()) return s;
    }
    call.dtype = x.dtype;
    if (Status s = collapse(x, call.shape); !s.ok()) return s;
    for (const Given* g = given; g != given + count; ++g) {
        Operand& operand = call[g->role];
        operand.name = g->name;
        if (Status s = resolve(g->name, *g->tensor, call.shape, operand); !s.ok()) return s;
    }
    return check_overlap(call);
}

std::string extents_text(const Shape& shape) {
    return shape.view == View::planar ? sentence("n", shape.outer, "_c", shape.channels, "_s", shape.inner)
                                      : sentence("r", shape.outer, "_c", shape.channels);
}

}  // namespace fusebn::detail
