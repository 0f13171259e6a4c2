// Kernels that nobody wants.
extern "C" int crashes(void**) { __builtin_trap(); }
extern "C" int does_nothing(void**) { return 0; }
extern "C" int fails(void**) { return 7; }
