#include <memory>

#include "cuda.h"
#include "modes.h"

using namespace fusebn;

bool run_devices(const std::vector<Row>& rows) {
    (void)cuda();  // says where there is no driver
    const int count = device_count(DeviceKind::cuda);
    if (count < 2) {
        std::printf("{\"gpus\": %d}\n", count);
        return true;
    }
    bool all_agreed = true;
    for (const Row& row : rows) {
        std::vector<std::unique_ptr<Layer>> layers;
        for (int i = 0; i < count; ++i) layers.push_back(std::make_unique<Layer>(row, Device::cuda(i), values(row)));
        for (const auto& layer : layers) layer->call();  // all are queued before the first is waited for
        const Bytes first = layers.front()->result(true);
        bool agreed = true;
        for (const auto& layer : layers) agreed = agreed && layer->result(true) == first;
        all_agreed = all_agreed && agreed;
        std::printf("{\"gpus\": %d, \"kernel_on_all\": \"%s\", \"bits_as_first\": %s}\n", count, row.name.c_str(),
                    agreed ? "true" : "false");
        std::fflush(stdout);
    }
    return all_agreed;
}
