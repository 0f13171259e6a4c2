// What fusebn finds on this machine.
#pragma once

#include <ostream>

namespace fusebn {

// Prints a line a finding; returns 0, or 1 when something that `fusebn` needs is missing.
int doctor(std::ostream& out);

}  // namespace fusebn
