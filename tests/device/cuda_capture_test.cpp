// Graphs: after prepare() a call queues launches and nothing else, and a replay goes on from the state that the one
// before left.
#include "on_cuda.h"

namespace fusebn::test {
namespace {

const Extents shape{2, 4, 3, 3};
int a_stream, another_stream;  // by their addresses

class CudaCapture : public OnCuda {
protected:
    static Tensor of(const DeviceTensor& t, const Extents& extents = shape) { return t.view(Layout::NCHW, extents); }
    static ConstTensor form(const Extents& extents = shape) {
        return ConstTensor(nullptr, DataType::f32, Layout::NCHW, extents);
    }
    void begin() {
        fake_cuda().forget();
        fake_cuda().captured.insert(&a_stream);
    }
    static std::vector<std::string> queued() {
        std::vector<std::string> calls;
        for (const std::string& call : fake_cuda().calls) {
            const bool asks = call == "cuCtxGetCurrent" || call == "cuCtxPushCurrent" || call == "cuCtxPopCurrent" ||
                              call == "cuPointerGetAttributes" || call == "cuStreamIsCapturing";
            if (!asks) calls.push_back(call);
        }
        return calls;
    }
    DeviceTensor x_{Device::cuda(), noise(512, 1)}, y_{Device::cuda(), noise(512)}, z_{Device::cuda(), noise(512)};
    DeviceTensor dx_{Device::cuda(), noise(512)};
};

TEST_F(CudaCapture, OfATrainingStepNeedsLaunchesOnly) {
    for (const auto& activation : activation_names) {
        for (const Extents& extents : {shape, Extents{18, 4, 1, 1}}) {
            for (const bool frozen : {false, true}) {
                SCOPED_TRACE(testing::Message() << activation.name << frozen);
                FakeLibrary library = library_of_both(activation.value), plain = library_of_both();
                BatchNorm2d bn(4, library.table(), on(Device::cuda(), activation.value));
                BatchNorm2d other(4, plain.table(), on(Device::cuda()));
                for (BatchNorm2d* layer : {&bn, &other}) {
                    expect_ok(layer->set_stream(&a_stream));
                    expect_ok(layer->freeze_statistics(frozen));
                }
                const Op forward = frozen ? Op::inference : Op::train_forward;
                for (const auto& residual : residual_names) {
                    expect_ok(bn.prepare(form(extents), {forward, Op::backward}, residual.value));
                }
                begin();
                const auto t = [&](const DeviceTensor& tensor) { return of(tensor, extents); };
                BackwardOptions accumulate{Gradient::accumulate, Gradient::accumulate, {}}, with_residual;
                with_residual.residual = t(z_);
                bn.zero_grad();
                expect_ok(bn.forward(t(x_), t(y_)));
                expect_ok(bn.backward(t(x_), t(y_), t(dx_), accumulate));
                expect_ok(bn.forward_add(t(x_), t(z_), t(y_)));
                expect_ok(bn.backward_add(t(x_), t(y_), t(dx_), t(y_), with_residual));
                expect_ok(bn.forward_sum(t(x_), other, t(z_), t(y_)));
                expect_ok(bn.backward_sum(t(x_), other, t(z_), t(y_), t(dx_), t(y_), accumulate));
                for (const std::string& call : queued()) {
                    EXPECT_TRUE(call == "cuLaunchKernel" || call == "cuMemsetD8Async") << call;
                }
                fake_cuda().captured.clear();
            }
        }
    }
}

TEST_F(CudaCapture, ReplaysGoOnFromTheStateBefore) {
    FakeLibrary library = library_of_both();
    BatchNorm2d captured(4, library.table(), on(Device::cuda())), plain(4, library.table(), on(Device::cuda()));
    expect_ok(captured.set_stream(&a_stream));
    expect_ok(captured.prepare(form(), {Op::train_forward, Op::backward}));
    begin();
    const BackwardOptions accumulate{Gradient::accumulate, Gradient::overwrite, {}};
    expect_ok(captured.forward(of(x_), of(y_)));
    expect_ok(captured.backward(of(x_), of(y_), of(dx_), accumulate));
    fake_cuda().captured.clear();
    EXPECT_EQ(captured.state().running_mean, std::vector<float>(4)) << "nothing has run yet";
    for (int step = 0; step < 3; ++step) {
        x_.set(noise(512, 1, static_cast<std::uint32_t>(step)));
        fake_cuda().replay();
        const std::vector<float> y = y_.get(), dx = dx_.get();
        expect_ok(plain.forward(of(x_), of(y_)));
        expect_ok(plain.backward(of(x_), of(y_), of(dx_), accumulate));
        EXPECT_EQ(y, y_.get());
        EXPECT_EQ(dx, dx_.get());
        EXPECT_EQ(captured.state().running_mean, plain.state().running_mean);
        EXPECT_EQ(captured.state().running_var, plain.state().running_var);
        EXPECT_EQ(captured.saved_mean(), plain.saved_mean());
        EXPECT_EQ(captured.grad_gamma(), plain.grad_gamma());
        EXPECT_EQ(captured.grad_beta(), plain.grad_beta());
    }
}

TEST_F(CudaCapture, OutlivesLargerShapesLater) {
    FakeLibrary library = library_of_both(Activation::relu);
    BatchNorm2d bn(4, library.table(), on(Device::cuda(), Activation::relu));
    expect_ok(bn.set_stream(&a_stream));
    expect_ok(bn.prepare(form(), {Op::train_forward}, Residual::add));
    begin();
    expect_ok(bn.forward_add(of(x_), of(z_), of(y_)));
    fake_cuda().captured.clear();
    const Extents larger{4, 4, 5, 5};
    expect_ok(bn.forward_add(of(x_, larger), of(z_, larger), of(y_, larger)));
    EXPECT_EQ(fake_cuda().count("cuMemFree"), 0) << "the graph's mask is there";
    fake_cuda().replay();
}

TEST_F(CudaCapture, WithoutPrepareSaysWhatToDo) {
    FakeLibrary library = library_of_both(Activation::relu);
    BatchNorm2d bn(4, library.table(), on(Device::cuda(), Activation::relu));
    expect_ok(bn.set_stream(&a_stream));
    begin();
    expect_error(bn.forward(of(x_), of(y_)), ErrorCode::launch_failed,
                 "stream: it is being captured, and the call needs 32 bytes where it has 0");
    fake_cuda().captured.clear();
    expect_ok(bn.prepare(form(), {Op::train_forward}));
    begin();
    expect_error(bn.forward_add(of(x_), of(z_), of(y_)), ErrorCode::launch_failed,
                 "call prepare() for this shape before the capture");
    EXPECT_EQ(bn.saved_bytes(), 0u);
    expect_ok(bn.forward(of(x_), of(y_)));
    expect_error(bn.backward(of(x_), of(y_), of(dx_), {Gradient::accumulate, Gradient::skip, {}}),
                 ErrorCode::launch_failed, "kernel fusebn_add is not loaded");
}

TEST_F(CudaCapture, TakesNoCallThatWaits) {
    FakeLibrary library = library_of_both();
    BatchNorm2d bn(4, library.table(), on(Device::cuda()));
    expect_ok(bn.set_stream(&a_stream));
    begin();
    expect_error(bn.set_state(BatchNormState(bn.state())), ErrorCode::launch_failed,
                 "setting the layer's values waits");
    expect_error(bn.save("nowhere"), ErrorCode::launch_failed, "reading the layer's values waits");
    EXPECT_TRUE(std::isnan(bn.state().gamma[0]));
    expect_error(bn.set_stream(&another_stream), ErrorCode::launch_failed, "layers change over by waiting");
    fake_cuda().captured = {&another_stream};
    expect_error(bn.set_stream(&another_stream), ErrorCode::launch_failed,
                 "expected a change before the capture or after it");
    fake_cuda().captured.clear();
    expect_ok(bn.set_stream(&another_stream));
}

TEST_F(CudaCapture, TakesNoCumulativeMomentum) {
    FakeLibrary library = library_of_both();
    BatchNormOptions options = on(Device::cuda());
    options.momentum = Momentum::cumulative();
    BatchNorm2d bn(4, library.table(), options);
    expect_ok(bn.set_stream(&a_stream));
    expect_ok(bn.prepare(form(), {Op::train_forward}));
    begin();
    expect_error(bn.forward(of(x_), of(y_)), ErrorCode::launch_failed, "options.momentum is cumulative");
    fake_cuda().captured.clear();
    expect_ok(bn.forward(of(x_), of(y_)));
}

TEST_F(CudaCapture, IsNotDiagnosedForDrift) {
    FakeLibrary library = library_of_both();
    BatchNorm2d bn(4, library.table(), on(Device::cuda()));
    int reports = 0;
    ASSERT_TRUE(bn.set_diagnostics({[&](const Diagnostic&) { ++reports; }, 2, 0}).ok());
    expect_ok(bn.set_stream(&a_stream));
    for (int i = 0; i < 12; ++i) expect_ok(bn.forward(of(x_), of(y_)));
    EXPECT_GT(reports, 0);
    const int before = reports;
    begin();
    expect_ok(bn.forward(of(x_), of(y_)));
    EXPECT_EQ(reports, before);
}

}  // namespace
}  // namespace fusebn::test
