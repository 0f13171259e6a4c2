// The kernels of fake_library.h: one entry for every row that there can be.
#pragma once

#include "fake_library.h"

namespace fusebn::test {

fusebn_entry fake_entry(const FakeRow& row, Kind kind, bool unaligned);

// On a device each entry asks for two pieces of working memory and launches these two. A fake driver is to run them by
// their names: fake_begin(double* work, int32 channels), fake_apply(uint64 key, const double* work), which returns 0
// where `work` is as fake_begin left it.
extern const char* const fake_begin_name;
extern const char* const fake_apply_name;
fusebn_device_code& fake_device_code();
void fake_begin(double* work, std::int32_t channels);
int fake_apply(std::uint64_t key, const double* work);

}  // namespace fusebn::test
