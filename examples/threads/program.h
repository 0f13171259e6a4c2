// Training steps of one layer on fusebn's own pool and on the caller's, and what came of it.
#pragma once

#include <fusebn/parallel.h>

// Prints how long a step took on either, in turns. Returns main's status: 0 where the results are equal bit for bit.
int compare(const char* name, fusebn::ParallelFor pool);
