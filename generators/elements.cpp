#include "generators/elements.h"

namespace fusebn {

using namespace Halide;

namespace {

Expr u16(const Expr& e) { return cast<std::uint16_t>(e); }
Expr bits(const Expr& f32) { return reinterpret<std::uint32_t>(f32); }
Expr constant(std::uint32_t value) { return Expr(value); }

}  // namespace

Type stored_type(DataType dtype) { return dtype == DataType::f32 ? Type(Float(32)) : Type(UInt(16)); }

Expr to_f32(DataType dtype, Expr stored) {
    switch (dtype) {
        case DataType::f32: return stored;
        case DataType::bf16: return reinterpret<float>(cast<std::uint32_t>(stored) << constant(16));
        // Halide's emulation, where a processor has no instruction, leaves a signalling NaN as it is.
        case DataType::f16: return cast<float>(reinterpret(Float(16), stored));
    }
    return stored;
}

Expr from_f32(DataType dtype, Expr value) {
    switch (dtype) {
        case DataType::f32: return value;
        case DataType::bf16: {
            const Expr b = bits(value), odd = (b >> constant(16)) & constant(1);
            return u16((b + (constant(0x7fff) + odd)) >> constant(16));
        }
        case DataType::f16: {
            // Halide's emulation makes infinities of NaNs.
            const Expr b = bits(value);
            const Expr nan =
                ((b >> constant(16)) & constant(0x8000)) | constant(0x7e00) | ((b >> constant(13)) & constant(0x03ff));
            return select(value == value, reinterpret<std::uint16_t>(cast(Float(16), value)), u16(nan));
        }
    }
    return value;
}

Expr without_payload(Expr value) { return select(value == value, value, reinterpret<float>(constant(0x7fc00000))); }

}  // namespace fusebn
