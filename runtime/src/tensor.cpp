#include "fusebn/tensor.h"

#include <algorithm>

namespace fusebn {

Extents::Extents(std::initializer_list<std::int64_t> values)
    : Extents(values.begin(), static_cast<int>(values.size())) {}

Extents::Extents(const std::int64_t* values, int rank) : rank_(rank) {
    // A rank that no layout has is kept as given, so that the first call can say what is wrong with it; so it can of
    // the zeros that are left where there are no values to copy.
    if (values == nullptr) return;
    std::copy_n(values, std::clamp(rank, 0, max_rank), values_.begin());
}

}  // namespace fusebn
