// What the benchmark does with rows. Each prints a line of JSON for every row; the result is whether all agreed.
#pragma once

#include <vector>

#include "layer.h"

// The result bit for bit beside the CPU's kernel and a second run's and, where `timed`, times beside a copy of the same
// bytes.
bool run_rows(const std::vector<Row>& rows, bool timed);
// The same in processes of their own: a row that fails, or takes longer than three minutes, costs no other row.
bool run_rows_apart(const std::vector<Row>& rows);
// A call captured into a CUDA graph and replayed, beside direct calls: bits, running statistics and time.
bool run_graphs(const std::vector<Row>& rows);
// Every GPU at once, beside the first one: bits. Where there is one GPU it says so.
bool run_devices(const std::vector<Row>& rows);
// From the start of this process to the first result of one row, in parts.
bool run_first_call(const Row& row);
