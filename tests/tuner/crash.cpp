// Kernels that nobody wants.
#include <cstdlib>

extern "C" int crashes(void**) { __builtin_trap(); }
extern "C" int does_nothing(void**) { return 0; }
// As a device's context that an error has ended: the process has no other.
extern "C" int fails_for_good(void**) { return setenv("FUSEBN_TEST_CONTEXT_IS_LOST", "1", 1), 7; }
extern "C" int does_nothing_while_it_can(void**) { return getenv("FUSEBN_TEST_CONTEXT_IS_LOST") != nullptr ? 7 : 0; }
