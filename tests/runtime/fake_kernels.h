// The kernels of fake_library.h: one entry for every row that there can be.
#pragma once

#include "fake_library.h"

namespace fusebn::test {

fusebn_entry fake_entry(const FakeRow& row, Kind kind, bool unaligned);

}  // namespace fusebn::test
