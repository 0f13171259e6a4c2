// The first two levels of a sum over a channel, f32: steps and chunks.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "generators/statistics.h"

namespace fusebn {

// One Expr a term.
using Vector = std::vector<Halide::Expr>;
Vector operator+(const Vector& a, const Vector& b);
Vector values(const Halide::FuncRef& f, size_t terms);
void assign(Halide::FuncRef f, const Vector& v);

std::optional<int> constant(const Halide::Expr& e);
Halide::Expr ceil_div(const Halide::Expr& a, int b);

// What of a chunk a sum takes: all of it, or its first step.
enum class Part { whole, first_step };

// The part of a row that chunk k holds, and its rows.
struct PlanarChunk {
    Halide::Expr first_n, rows, first_s, length;
    std::vector<int> lengths;  // all that occur, where S is a constant
    int longest;               // that can occur
    Halide::Expr max_rows;
};

Halide::Expr planar_row_chunks(const ViewShape& shape);
Halide::Expr planar_chunk_rows(const ViewShape& shape);
PlanarChunk planar_part(const ViewShape& shape, const Halide::Expr& k, Part part);
int interleaved_rows(Part part);

// What a chunk's terms sum up to, in the order of numerics.h.
ChunkSum chunk_sum(const std::string& name, const ViewShape& shape, Part part, int terms_count, const Terms& terms);

}  // namespace fusebn
