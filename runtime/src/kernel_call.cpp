#include "kernel_call.h"

#include "context.h"
#include "text.h"

namespace fusebn::detail {
namespace {

// Of the last call that ran on this thread; a string only when somebody asks. It has no destructor: one would run at
// the thread's end, when a library that was loaded at run time may be gone.
thread_local Choice last_kernel{};

// Why a kernel's loop ended with `code`, or "".
std::string reason(int code) {
    if (code == loop_threw) return ", as the function given to set_parallel_for threw";
    if (code != loop_incomplete) return "";
    const IncompleteLoop loop = last_incomplete_loop();
    return sentence(", as the function given to set_parallel_for ran ", loop.run, " of ", loop.count, " tasks",
                    loop.outside != 0 ? sentence(" and asked for index ", loop.outside) : "",
                    ", where every index from 0 to ", loop.count - 1, " was expected");
}

}  // namespace

Status outcome(int code, const Choice& choice) {
    if (code == 0) {
        last_kernel = choice;
        return Status();
    }
    if (code == FUSEBN_KERNEL_OUT_OF_MEMORY) {
        return Status(ErrorCode::out_of_memory, sentence("memory: the working memory of ", choice.kernel->name,
                                                         " could not be had; free memory, and call again"));
    }
    return Status(ErrorCode::invalid_argument,
                  sentence("parallel_for: ", choice.kernel->name, " stopped with code ", code, reason(code),
                           "; the outputs are incomplete, the layer's state unchanged"));
}

std::string last_kernel_of_this_thread() {
    return last_kernel.kernel != nullptr ? describe(last_kernel) : std::string();
}

}  // namespace fusebn::detail
