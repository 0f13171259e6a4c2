#include "compiler/doctor.h"

#include "compiler/build.h"
#include "compiler/emit.h"
#include "compiler/lower.h"
#include "compiler/variant.h"
#include "fusebn/parallel.h"
#include "measure/machine.h"

namespace fusebn {

int doctor(std::ostream& out) {
    bool healthy = true;
    const auto line = [&](bool ok, const std::string& what, const std::string& found) {
        out << (ok ? "ok    " : "WRONG ") << what << ": " << found << "\n";
        healthy &= ok;
    };
    out << generator_version() << "\n";
    out << "      best instruction set here: " << to_string(instruction_set()) << "\n";
    out << "      processor here: " << processor() << "\n";
    out << "      caches here: " << measure::caches_text(measure::this_machine()) << "\n";
    out << "      threads here: " << num_threads() << "\n";
    for (const auto& isa : instruction_set_names) {
        if (is_device(isa.value)) continue;
        std::string found = "a kernel compiles";
        bool ok = true;
        try {
            const KernelSpec k{Op::inference, View::planar, DataType::f32, Activation::relu, Residual::none, 2, 3, 64};
            const Schedule s = default_schedule(k);
            emit_kernel(lower(k, s, isa.value, false), isa.value, "doctor", Emit::object);
        } catch (const std::exception& e) {
            ok = false;
            found = e.what();
        }
        line(ok, std::string(isa.name), found);
    }
    return healthy ? 0 : 1;
}

}  // namespace fusebn
