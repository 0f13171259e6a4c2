// The public calls, which all do the same around a layer's own: a layer that was moved from says so, and diagnostics
// follow a forward call.
#include "layer.h"
#include "text.h"

namespace fusebn {

namespace {

// forward and backward have the other layer's errors as their own.
Status of_other(const Status& status) { return Status(status.code(), detail::sentence("other: ", status.message())); }

}  // namespace

Status BatchNorm::forward(const ConstTensor& x, const Tensor& y) {
    if (!impl_) return status();
    Status s = impl_->forward(Residual::none, x, nullptr, nullptr, y);
    if (impl_->diagnostics.report && s.ok()) impl_->diagnose(*this);
    return s;
}

Status BatchNorm::forward_add(const ConstTensor& x, const ConstTensor& residual, const Tensor& y) {
    if (!impl_) return status();
    Status s = impl_->forward(Residual::add, x, &residual, nullptr, y);
    if (impl_->diagnostics.report && s.ok()) impl_->diagnose(*this);
    return s;
}

Status BatchNorm::forward_sum(const ConstTensor& x, BatchNorm& other, const ConstTensor& x_other, const Tensor& y) {
    if (!impl_) return status();
    if (!other.impl_) return of_other(other.status());
    Status s = impl_->forward(Residual::batch_norm, x, &x_other, other.impl_.get(), y);
    if (impl_->diagnostics.report && s.ok()) impl_->diagnose(*this);
    if (other.impl_->diagnostics.report && s.ok()) other.impl_->diagnose(other);
    return s;
}

Status BatchNorm::backward(const ConstTensor& x, const ConstTensor& dy, const std::optional<Tensor>& dx,
                           const BackwardOptions& options) {
    if (!impl_) return status();
    return impl_->backward({Residual::none, x, dy, nullptr, nullptr, dx, std::nullopt, options});
}

Status BatchNorm::backward_add(const ConstTensor& x, const ConstTensor& dy, const std::optional<Tensor>& dx,
                               const std::optional<Tensor>& dresidual, const BackwardOptions& options) {
    if (!impl_) return status();
    return impl_->backward({Residual::add, x, dy, nullptr, nullptr, dx, dresidual, options});
}

Status BatchNorm::backward_sum(const ConstTensor& x, BatchNorm& other, const ConstTensor& x_other,
                               const ConstTensor& dy, const std::optional<Tensor>& dx,
                               const std::optional<Tensor>& dx_other, const BackwardOptions& options) {
    if (!impl_) return status();
    if (!other.impl_) return of_other(other.status());
    return impl_->backward({Residual::batch_norm, x, dy, &x_other, other.impl_.get(), dx, dx_other, options});
}

}  // namespace fusebn
