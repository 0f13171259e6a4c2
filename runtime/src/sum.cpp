// Two layers that meet: which may.
#include "layer.h"
#include "text.h"

namespace fusebn {

using namespace detail;

Status BatchNorm::Impl::check_other(const Impl& other) const {
    const auto refuse = [](const auto&... parts) {
        return Status(ErrorCode::invalid_argument, sentence("other: ", parts...));
    };
    if (!other.status.ok()) return Status(other.status.code(), sentence("other: ", other.status.message()));
    if (&other == this) return refuse("it is the layer itself; expected a second one, with statistics of its own");
    if (other.features != features || other.dimensions != dimensions) {
        return refuse("it is a BatchNorm", other.dimensions, "d of ", other.features,
                      " features, but the layer is a BatchNorm", dimensions, "d of ", features,
                      "; they must be the same");
    }
    if (other.options.activation != Activation::none) {
        return refuse("its activation is ", to_string(other.options.activation),
                      "; expected none, as the sum's activation is the layer's");
    }
    if (other.options.device != options.device ||
        (device != nullptr && &other.device->backend() != &device->backend())) {
        return refuse("it is not on the layer's device (or not in its context); expected two layers on one");
    }
    if (device != nullptr && other.device->launcher.stream() != device->launcher.stream()) {
        return refuse("its stream is not the layer's; give both the same one by set_stream()");
    }
    if (other.by_batch() != by_batch()) {
        const auto uses = [](const Impl& layer) {
            return layer.by_batch() ? "the batch's statistics" : "running statistics";
        };
        return refuse("its mode stands for ", uses(other), ", but the layer's for ", uses(*this),
                      "; put both into one mode (train(), eval(), freeze_statistics())");
    }
    return Status();
}

}  // namespace fusebn
