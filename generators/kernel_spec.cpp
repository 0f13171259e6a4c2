// The name of a kernel is its row, so that a profile or an error message says which one ran.
#include "generators/kernel_spec.h"

#include <cstdint>

namespace fusebn {
namespace {

std::string extent_name(char letter, std::int64_t extent) {
    return std::string("_") + letter + (extent == any_extent ? "any" : std::to_string(extent));
}

}  // namespace

bool needs_large(const KernelSpec& k) {
    if (k.outer == any_extent || k.channels == any_extent || k.inner == any_extent) return true;
    // Extents are below 2^31, so two of them cannot overflow.
    const std::int64_t plane = k.channels * k.inner;
    return plane > INT32_MAX || k.outer > INT32_MAX / plane;
}

std::string kernel_name(const KernelSpec& spec) {
    const bool planar = spec.view == View::planar;
    std::string name = "bn_";
    name += to_string(spec.op);
    name += '_';
    name += to_string(spec.dtype);
    name += '_';
    name += to_string(spec.view);
    name += extent_name(planar ? 'n' : 'r', spec.outer);
    name += extent_name('c', spec.channels);
    if (planar) name += extent_name('s', spec.inner);  // always 1 in the interleaved view
    if (spec.residual != Residual::none) {
        name += '_';
        name += to_string(spec.residual);
    }
    name += '_';
    name += to_string(spec.activation);
    return name;
}

}  // namespace fusebn
