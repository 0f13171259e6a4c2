#include "device/opencl_device.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "device/opencl_driver.h"
#include "text.h"

namespace fusebn {
namespace detail {
namespace {

using opencl::Context;
using opencl::driver;
using opencl::error;
using opencl::Memory;
using opencl::Queue;
using opencl::Result;

Memory memory_of(Handle handle) { return reinterpret_cast<Memory>(static_cast<std::uintptr_t>(handle)); }

// What the process has of a device: made when it is first asked for and kept until the end, as the program's own
// buffers are in the context, and its own queues.
struct Opened {
    Context context = nullptr;
    Queue queue = nullptr;
    bool exact_division = false;  // f32 division and square root can be had correctly rounded
};

std::string name_of_device(opencl::DeviceId device) {
    char name[256] = "";
    if (driver().device_info(device, opencl::device_name_info, sizeof(name) - 1, name, nullptr) != opencl::success) {
        return "";
    }
    return name;
}

std::uint64_t arithmetic(opencl::DeviceId device, std::uint32_t precision) {
    std::uint64_t bits = 0;
    const Result result = driver().device_info(device, precision, sizeof(bits), &bits, nullptr);
    return result == opencl::success ? bits : 0;
}

Status no_device(const std::string& why) { return Status(ErrorCode::no_device, sentence("options.device: ", why)); }

Status open(int ordinal, Opened& result) {
    if (!driver().missing.empty()) return no_device(driver().missing);
    const auto& devices = driver().all_devices;
    if (ordinal < 0 || static_cast<std::size_t>(ordinal) >= devices.size()) {
        return no_device(
            sentence("there is no opencl:", ordinal, "; there are ", devices.size(), " devices, counted from 0"));
    }
    static std::mutex& busy = *new std::mutex;
    static auto& all = *new std::vector<Opened>(devices.size());
    const std::lock_guard<std::mutex> lock(busy);
    Opened& opened = all[static_cast<std::size_t>(ordinal)];
    if (opened.queue == nullptr) {
        const opencl::DeviceId device = devices[static_cast<std::size_t>(ordinal)];
        if (arithmetic(device, opencl::device_double_arithmetic) == 0) {
            return no_device(sentence("opencl:", ordinal, " (", name_of_device(device),
                                      ") has no double precision (cl_khr_fp64), which statistics are kept in"));
        }
        opened.exact_division =
            (arithmetic(device, opencl::device_single_arithmetic) & opencl::correctly_rounded_divide_sqrt) != 0;
        Result code = opencl::success;
        if (opened.context == nullptr) {
            opened.context = driver().create_context(nullptr, 1, &device, nullptr, nullptr, &code);
        }
        if (opened.context != nullptr) opened.queue = driver().create_queue(opened.context, device, 0, &code);
        if (opened.queue == nullptr) return no_device(sentence("opencl:", ordinal, " cannot be used: ", error(code)));
    }
    result = opened;
    return Status();
}

struct OpenClModule final : Module {
    explicit OpenClModule(opencl::Program built) : program(built) {}
    OpenClModule(const OpenClModule&) = delete;
    OpenClModule& operator=(const OpenClModule&) = delete;
    ~OpenClModule() override { driver().release_program(program); }
    opencl::Program program;
};

struct OpenClFunction final : Function {
    explicit OpenClFunction(opencl::Kernel made) : kernel(made) {}
    OpenClFunction(const OpenClFunction&) = delete;
    OpenClFunction& operator=(const OpenClFunction&) = delete;
    ~OpenClFunction() override { driver().release_kernel(kernel); }
    opencl::Kernel kernel;
};

class OpenClDevice final : public Backend {
public:
    OpenClDevice(int ordinal, std::string text, const Opened& opened)
        : Backend(Device::opencl(ordinal), std::move(text)),
          device_(driver().all_devices[static_cast<std::size_t>(ordinal)]),
          opened_(opened) {}

    InstructionSet lowest_isa() const override { return InstructionSet::opencl; }
    std::int32_t highest_isa() const override { return FUSEBN_ISA_OPENCL; }
    bool opaque_memory() const override { return true; }

    Status enter(bool&) override { return Status(); }
    void leave() noexcept override {}

    Status allocate(const std::size_t* bytes, int count, Handle* pieces) override {
        for (int i = 0; i < count; ++i) {
            Result code = opencl::success;
            const Memory made = driver().create_buffer(opened_.context, opencl::read_write,
                                                       std::max<std::size_t>(bytes[i], 1), nullptr, &code);
            if (made == nullptr) {
                free(pieces, i);
                return outcome(code, sentence("an allocation of ", bytes[i], " bytes").c_str());
            }
            pieces[i] = reinterpret_cast<std::uintptr_t>(made);
        }
        return Status();
    }
    void free(const Handle* pieces, int count) noexcept override {
        for (int i = 0; i < count; ++i) driver().release_memory(memory_of(pieces[i]));
    }
    bool frees_after_use() const override { return true; }

    Status upload(void* stream, Handle to, const void* from, std::size_t bytes) override {
        return outcome(
            driver().write(queue(stream), memory_of(to), opencl::blocking, 0, bytes, from, 0, nullptr, nullptr),
            "a copy to it");
    }
    Status download(void* stream, void* to, Handle from, std::size_t bytes) override {
        return outcome(
            driver().read(queue(stream), memory_of(from), opencl::blocking, 0, bytes, to, 0, nullptr, nullptr),
            "a copy from it");
    }
    Status synchronize(void* stream) override {
        return outcome(driver().finish(queue(stream)), "waiting for the queue");
    }
    Status fill_zeros(void* stream, Handle to, std::size_t bytes) override {
        const unsigned char zero = 0;
        return outcome(driver().fill(queue(stream), memory_of(to), &zero, 1, 0, bytes, 0, nullptr, nullptr),
                       "filling with zeros");
    }
    void flush(void* stream) noexcept override { driver().flush(queue(stream)); }

    Status is_captured(void*, bool& captured) override {
        captured = false;
        return Status();
    }
    Status check_stream(void* stream) override;
    Status check_memory(const Operand& operand, std::uint64_t bytes) override;

    Status function(Module& module, const char* name, std::unique_ptr<Function>& function) override {
        Result code = opencl::success;
        const opencl::Kernel kernel = driver().create_kernel(static_cast<OpenClModule&>(module).program, name, &code);
        if (kernel == nullptr) return outcome(code, sentence("looking for kernel ", name).c_str());
        function = std::make_unique<OpenClFunction>(kernel);
        return Status();
    }
    Status prepare_launch(Function&, std::int32_t) override { return Status(); }
    Status launch(void* stream, Function& function, const LaunchArguments& launch) override;

private:
    Status load(const fusebn_device_code& code, std::shared_ptr<Module>& module) override;
    Queue queue(void* stream) const { return stream != nullptr ? static_cast<Queue>(stream) : opened_.queue; }
    Status outcome(Result result, const char* what) const { return driver().outcome(result, text().c_str(), what); }

    const opencl::DeviceId device_;
    const Opened opened_;
};

Status OpenClDevice::check_stream(void* stream) {
    if (stream == nullptr) return Status();
    Context context = nullptr;
    opencl::DeviceId device = nullptr;
    std::uint64_t properties = 0;
    const auto ask = [&](std::uint32_t what, auto& value) {
        return driver().queue_info(static_cast<Queue>(stream), what, sizeof(value), &value, nullptr);
    };
    Result result = ask(opencl::queue_context, context);
    if (result == opencl::success) result = ask(opencl::queue_device, device);
    if (result == opencl::success) result = ask(opencl::queue_properties, properties);
    const auto refuse = [](const auto&... what) {
        return Status(ErrorCode::invalid_argument, sentence("stream: ", what...));
    };
    if (result != opencl::success) return refuse("it is no command queue: ", error(result));
    if (context != opened_.context || device != device_) {
        return refuse("it is a queue of another context or device; expected one of opencl_context() for ", text());
    }
    if ((properties & opencl::out_of_order) != 0) return refuse("it runs out of order; expected a queue in order");
    return Status();
}

Status OpenClDevice::check_memory(const Operand& operand, std::uint64_t bytes) {
    const auto refuse = [&](const auto&... what) {
        return Status(ErrorCode::not_device_memory, sentence(operand.name, ": its data is ", what...));
    };
    std::uint32_t type = 0;
    std::size_t size = 0;
    Context context = nullptr;
    const auto ask = [&](std::uint32_t what, auto& value) {
        return driver().memory_info(static_cast<Memory>(operand.data), what, sizeof(value), &value, nullptr);
    };
    Result result = ask(opencl::memory_type, type);
    if (result == opencl::success) result = ask(opencl::memory_bytes, size);
    if (result == opencl::success) result = ask(opencl::memory_context, context);
    if (result != opencl::success) return refuse("no cl_mem: ", error(result), "; expected a buffer of ", text());
    if (type != opencl::type_buffer) return refuse("an image or a pipe; expected a buffer of ", text());
    if (context != opened_.context) {
        return refuse("of another context; expected a buffer of opencl_context() for ", text());
    }
    if (size < bytes) return refuse("a buffer of ", size, " bytes; expected ", bytes, " at least");
    return Status();
}

Status OpenClDevice::load(const fusebn_device_code& code, std::shared_ptr<Module>& module) {
    Result result = opencl::success;
    const char* text_of_code = code.text;
    const auto bytes = static_cast<std::size_t>(code.text_bytes);
    const opencl::Program program = driver().create_program(opened_.context, 1, &text_of_code, &bytes, &result);
    if (program == nullptr) return outcome(result, "loading kernels");
    auto made = std::make_shared<OpenClModule>(program);
    const char* const options =
        opened_.exact_division ? "-cl-std=CL1.2 -cl-fp32-correctly-rounded-divide-sqrt" : "-cl-std=CL1.2";
    result = driver().build_program(program, 1, &device_, options, nullptr, nullptr);
    if (result != opencl::success) {
        std::size_t log_bytes = 0;
        driver().program_build_info(program, device_, opencl::build_log, 0, nullptr, &log_bytes);
        std::string log(log_bytes, '\0');
        driver().program_build_info(program, device_, opencl::build_log, log_bytes, log.data(), nullptr);
        log.resize(std::min<std::size_t>(log.find('\0'), 1024));
        return outcome(result,
                       sentence("building kernels", log.empty() ? "" : " (", log, log.empty() ? "" : ")").c_str());
    }
    module = std::move(made);
    return Status();
}

Status OpenClDevice::launch(void* stream, Function& function, const LaunchArguments& launch) {
    const opencl::Kernel kernel = static_cast<OpenClFunction&>(function).kernel;
    std::uint32_t count = 0;
    Result result = opencl::success;
    for (; result == opencl::success && launch.arguments[count] != nullptr; ++count) {
        void* const given = launch.arguments[count];
        if (launch.is_buffer[count] != 0) {
            const Memory memory = memory_of(static_cast<const fusebn_buffer*>(given)->device);
            result = driver().set_argument(kernel, count, sizeof(memory), &memory);
        } else {
            result = driver().set_argument(kernel, count, static_cast<std::size_t>(launch.sizes[count]), given);
        }
    }
    if (result != opencl::success) return outcome(result, sentence("argument ", count - 1, " of a kernel").c_str());
    // The last parameter is the block's shared memory, also where it has none.
    const auto shared = static_cast<std::size_t>(std::max(launch.shared_bytes, std::int32_t{1}));
    result = driver().set_argument(kernel, count, shared, nullptr);
    std::size_t global[3], local[3];
    for (int i = 0; i < 3; ++i) {
        local[i] = static_cast<std::size_t>(launch.block[i]);
        global[i] = static_cast<std::size_t>(launch.grid[i]) * local[i];
    }
    if (result == opencl::success) {
        result = driver().launch(queue(stream), kernel, 3, nullptr, global, local, 0, nullptr, nullptr);
    }
    if (result == opencl::success) return Status();
    return outcome(result, sentence("a launch of ", launch.grid[0], "x", launch.grid[1], "x", launch.grid[2],
                                    " groups of ", launch.block[0], "x", launch.block[1], "x", launch.block[2],
                                    " items with ", launch.shared_bytes, " bytes of local memory")
                               .c_str());
}

}  // namespace

int opencl_device_count() { return static_cast<int>(driver().all_devices.size()); }

std::string opencl_device_name(int ordinal) {
    if (ordinal < 0 || ordinal >= opencl_device_count()) return "";
    return name_of_device(driver().all_devices[static_cast<std::size_t>(ordinal)]);
}

Status open_opencl(int ordinal, std::shared_ptr<Backend>& backend) {
    Opened opened;
    if (Status s = open(ordinal, opened); !s.ok()) return s;
    std::string text = sentence("opencl:", ordinal, " (", opencl_device_name(ordinal), ")");
    backend = std::make_shared<OpenClDevice>(ordinal, std::move(text), opened);
    return Status();
}

}  // namespace detail

void* opencl_context(const Device& device) {
    detail::Opened opened;
    return device.kind == DeviceKind::opencl && detail::open(device.ordinal, opened).ok() ? opened.context : nullptr;
}

void* opencl_queue(const Device& device) {
    detail::Opened opened;
    return device.kind == DeviceKind::opencl && detail::open(device.ordinal, opened).ok() ? opened.queue : nullptr;
}

}  // namespace fusebn
