#include "layer_device.h"

#include <algorithm>
#include <new>

#include "kernel_call.h"
#include "text.h"

namespace fusebn::detail {

namespace {

constexpr int failed_on_device = -2000;

// What no generated kernel does. PTX without contraction, as the generated kernels have it.
const char helpers_ptx[] = R"(.version 7.0
.target sm_80
.address_size 64

.visible .entry fusebn_add(.param .u64 to, .param .u64 from, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %i, %b, %n, %t, %x, %y;
    .reg .b64 %o, %a, %c;
    mov.u32 %b, %ctaid.x;
    mov.u32 %n, %ntid.x;
    mov.u32 %t, %tid.x;
    mad.lo.s32 %i, %b, %n, %t;
    ld.param.u32 %n, [count];
    setp.ge.s32 %p, %i, %n;
    @%p bra done;
    mul.wide.s32 %o, %i, 4;
    ld.param.u64 %a, [to];
    ld.param.u64 %c, [from];
    cvta.to.global.u64 %a, %a;
    cvta.to.global.u64 %c, %c;
    add.s64 %a, %a, %o;
    add.s64 %c, %c, %o;
    ld.global.f32 %x, [%a];
    ld.global.f32 %y, [%c];
    add.rn.f32 %x, %x, %y;
    st.global.f32 [%a], %x;
done:
    ret;
}

.visible .entry fusebn_constants(.param .u64 mean_out, .param .u64 inv_std_out, .param .u64 mean, .param .u64 var,
                                 .param .f64 eps, .param .u32 count)
{
    .reg .pred %p;
    .reg .b32 %i, %b, %n, %t, %x;
    .reg .b64 %o, %a, %d, %e;
    mov.u32 %b, %ctaid.x;
    mov.u32 %n, %ntid.x;
    mov.u32 %t, %tid.x;
    mad.lo.s32 %i, %b, %n, %t;
    ld.param.u32 %n, [count];
    setp.ge.s32 %p, %i, %n;
    @%p bra done;
    mul.wide.s32 %o, %i, 4;
    ld.param.u64 %a, [mean];
    cvta.to.global.u64 %a, %a;
    add.s64 %a, %a, %o;
    ld.global.f32 %x, [%a];
    cvt.f64.f32 %d, %x;
    ld.param.u64 %a, [var];
    cvta.to.global.u64 %a, %a;
    add.s64 %a, %a, %o;
    ld.global.f32 %x, [%a];
    cvt.f64.f32 %e, %x;
    mul.wide.s32 %o, %i, 8;
    ld.param.u64 %a, [mean_out];
    cvta.to.global.u64 %a, %a;
    add.s64 %a, %a, %o;
    st.global.f64 [%a], %d;
    ld.param.f64 %d, [eps];
    add.rn.f64 %e, %e, %d;
    sqrt.rn.f64 %e, %e;
    rcp.rn.f64 %e, %e;
    ld.param.u64 %a, [inv_std_out];
    cvta.to.global.u64 %a, %a;
    add.s64 %a, %a, %o;
    st.global.f64 [%a], %e;
done:
    ret;
}
)";

const char helpers_opencl[] = R"(#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#pragma OPENCL FP_CONTRACT OFF
__kernel void fusebn_add(__global float* to, __global const float* from, int count, __local int* none) {
    const int i = get_global_id(0);
    if (i < count) to[i] += from[i];
}
__kernel void fusebn_constants(__global double* mean_out, __global double* inv_std_out, __global const float* mean,
                               __global const float* var, double eps, int count, __local int* none) {
    const int i = get_global_id(0);
    if (i >= count) return;
    mean_out[i] = mean[i];
    inv_std_out[i] = 1.0 / sqrt((double)var[i] + eps);
}
)";

constexpr fusebn_device_code helpers_for_cuda{helpers_ptx, sizeof(helpers_ptx) - 1, 0, nullptr};
constexpr fusebn_device_code helpers_for_opencl{helpers_opencl, sizeof(helpers_opencl) - 1, 0, nullptr};

// A device's address for Backend::launch.
fusebn_buffer buffer_at(DevicePointer memory) {
    fusebn_buffer buffer{};
    buffer.device = memory;
    return buffer;
}

}  // namespace

Status LayerDevice::open(Device device, int features, std::unique_ptr<LayerDevice>& made) {
    std::shared_ptr<Backend> backend;
    if (Status s = open_backend(device, backend); !s.ok()) return s;
    std::unique_ptr<LayerDevice> layer(new LayerDevice(std::move(backend), features));
    for (int i = 0; i < array_count; ++i) {
        const auto array = static_cast<Array>(i);
        auto& memory = layer->arrays_[static_cast<std::size_t>(i)];
        if (Status s = layer->backend_->allocate(layer->bytes(array), memory); !s.ok()) return s;
        if (Status s = layer->backend_->clear(memory, layer->bytes(array), nullptr); !s.ok()) return s;
    }
    const std::vector<float> ones(static_cast<std::size_t>(features), 1.0f);
    for (const Array array : {Array::gamma, Array::running_var}) {
        if (Status s = layer->upload(array, ones.data()); !s.ok()) return s;
    }
    layer->backend_->finish();
    made = std::move(layer);
    return Status();
}

LayerDevice::~LayerDevice() {
    backend_->finish();
    for (const DevicePointer memory : arrays_) backend_->free(memory);
    for (const Piece& piece : pieces_) backend_->free(piece.memory);
    for (const DevicePointer memory : retired_) backend_->free(memory);
    backend_->free(mask_.memory);
    for (const fusebn_device_code* code : codes_) backend_->release(code);
}

std::size_t LayerDevice::bytes(Array array) const {
    const std::size_t element = static_cast<int>(array) < f32_arrays ? sizeof(float) : sizeof(double);
    return static_cast<std::size_t>(features_) * element;
}

Status LayerDevice::upload(Array to, const void* values) { return backend_->upload(at(to), values, bytes(to), stream); }
Status LayerDevice::download(void* values, Array from) const {
    return backend_->download(values, at(from), bytes(from), stream);
}

Status LayerDevice::grow(Piece& piece, std::size_t bytes) {
    if (bytes <= piece.bytes) return Status();
    if (backend_->is_capturing(stream)) {
        return Status(
            ErrorCode::launch_failed,
            sentence("stream: it is being captured, and ", bytes,
                     " bytes of working memory have to be allocated; call prepare() for this shape before the "
                     "capture"));
    }
    Piece larger;
    if (Status s = backend_->allocate(bytes, larger.memory); !s.ok()) return s;
    larger.bytes = bytes;
    try {
        if (piece.memory != 0) retired_.push_back(piece.memory);
    } catch (const std::bad_alloc&) {
        backend_->free(larger.memory);
        return Status(ErrorCode::out_of_memory, "memory: there is none on the host");
    }
    piece = larger;
    return Status();
}

Status LayerDevice::reserve_mask(std::size_t bytes) { return grow(mask_, bytes); }

Status LayerDevice::function(const fusebn_device_code* code, const char* name, std::int32_t shared_bytes,
                             void*& function) {
    try {
        if (std::find(codes_.begin(), codes_.end(), code) == codes_.end()) {
            codes_.push_back(code);
            backend_->retain(code);
        }
        const Status there = backend_->function(code, name, shared_bytes, false, function);
        if (there.ok() || backend_->is_capturing(stream)) return there;
        return backend_->function(code, name, shared_bytes, true, function);
    } catch (const std::bad_alloc&) {
        return Status(ErrorCode::out_of_memory, "memory: there is none on the host");
    }
}

const fusebn_device_code* LayerDevice::helpers() const {
    return is_cuda(backend_->target()) ? &helpers_for_cuda : &helpers_for_opencl;
}

Status LayerDevice::prepare_helpers() {
    void* found = nullptr;
    if (Status s = function(helpers(), "fusebn_add", 0, found); !s.ok()) return s;
    return function(helpers(), "fusebn_constants", 0, found);
}

Status LayerDevice::run_helper(const char* name, void* const* arguments, const std::uint64_t* sizes,
                               const std::int8_t* is_buffer) {
    void* found = nullptr;
    if (Status s = function(helpers(), name, 0, found); !s.ok()) return s;
    constexpr std::int32_t threads = 128;
    const std::int32_t grid[] = {(features_ + threads - 1) / threads, 1, 1}, block[] = {threads, 1, 1};
    return backend_->launch(found, name, {grid, block, 0, sizes, arguments, is_buffer}, stream);
}

Status LayerDevice::add(Array to, Array from) {
    fusebn_buffer a = buffer_at(at(to)), b = buffer_at(at(from));
    std::int32_t count = features_;
    void* const arguments[] = {&a, &b, &count, nullptr};
    const std::uint64_t sizes[] = {8, 8, 4, 0};
    const std::int8_t is_buffer[] = {1, 1, 0, 0};
    return run_helper("fusebn_add", arguments, sizes, is_buffer);
}

Status LayerDevice::make_constants(double eps) {
    fusebn_buffer mean_out = buffer_at(at(Array::other_mean)), inv_std_out = buffer_at(at(Array::other_inv_std)),
                  mean = buffer_at(at(Array::running_mean)), var = buffer_at(at(Array::running_var));
    std::int32_t count = features_;
    void* const arguments[] = {&mean_out, &inv_std_out, &mean, &var, &eps, &count, nullptr};
    const std::uint64_t sizes[] = {8, 8, 8, 8, 8, 4, 0};
    const std::int8_t is_buffer[] = {1, 1, 1, 1, 0, 0, 0};
    return run_helper("fusebn_constants", arguments, sizes, is_buffer);
}

DeviceCall::DeviceCall(LayerDevice& device, bool dry)
    : device_(device), dry_(dry), context_{nullptr, nullptr, &DeviceCall::launch, &DeviceCall::allocate, this} {}

Status DeviceCall::outcome(int code, const Choice& choice) {
    if (code == failed_on_device) return status_;
    return detail::outcome(code, choice);
}

Status DeviceCall::outcome_of_dry_run(int code, const Choice& choice) {
    return code == 0 ? Status() : outcome(code, choice);
}

int DeviceCall::launch(const fusebn_context* context, const fusebn_device_code* code, const char* function,
                       const std::int32_t* grid, const std::int32_t* block, std::int32_t shared_bytes,
                       const std::uint64_t* sizes, void* const* arguments, const std::int8_t* is_buffer) {
    auto& call = *static_cast<DeviceCall*>(context->device);
    void* found = nullptr;
    call.status_ = call.device_.function(code, function, shared_bytes, found);
    const bool empty = grid[0] == 0 || grid[1] == 0 || grid[2] == 0;
    if (call.status_.ok() && !call.dry_ && !empty) {
        const Launch launch{grid, block, shared_bytes, sizes, arguments, is_buffer};
        call.status_ = call.device_.backend().launch(found, function, launch, call.device_.stream);
    }
    return call.status_.ok() ? 0 : failed_on_device;
}

int DeviceCall::allocate(const fusebn_context* context, fusebn_buffer* buffer) {
    if (buffer->device != 0) return 0;
    auto& call = *static_cast<DeviceCall*>(context->device);
    auto& pieces = call.device_.pieces_;
    std::size_t elements = 1;
    for (std::int32_t i = 0; i < buffer->dimensions; ++i) {
        const fusebn_dim& dim = buffer->dim[i];
        elements += static_cast<std::size_t>(std::max(dim.extent - 1, 0)) * static_cast<std::size_t>(dim.stride);
    }
    try {
        if (call.next_ == pieces.size()) pieces.emplace_back();
    } catch (const std::bad_alloc&) {
        return FUSEBN_KERNEL_OUT_OF_MEMORY;
    }
    LayerDevice::Piece& piece = pieces[call.next_++];
    call.status_ = call.device_.grow(piece, elements * static_cast<std::size_t>(buffer->type_bits / 8));
    if (!call.status_.ok()) return failed_on_device;
    buffer->device = piece.memory;
    return 0;
}

}  // namespace fusebn::detail
