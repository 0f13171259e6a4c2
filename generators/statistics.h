// Sums over a channel, and what is made of them, in the order that numerics.h fixes.
#pragma once

#include <Halide.h>

#include <functional>
#include <string>
#include <vector>

#include "fusebn/types.h"

namespace fusebn {

// The extents of a tensor in one of the two views; constants where the shape is fixed.
//   planar       (s, c, n)   outer = N, inner = S
//   interleaved  (c, r)      outer = R, inner = 1
struct ViewShape {
    View view;
    Halide::Expr outer, channels, inner;
    // For schedules that make all chunks of a group side by side, and those that copy the tensor: sums read nothing of
    // chunks that are not there and, planar, name no place outside the tensor, not even where a condition leaves it
    // out. Costs a condition or a minimum where rows, chunks or groups are ragged.
    bool stays_within = false;
};

// An element's place, in the view's order: {s, c, n} or {c, r}.
using Place = std::vector<Halide::Expr>;

// How a channel is cut into chunks.
struct Chunks {
    Halide::Expr count;                                    // chunks in a channel
    std::function<Halide::Expr(Halide::Expr k)> elements;  // values in chunk k, f64
    std::function<Halide::Expr(Halide::Expr k)> before;    // values in all chunks before k (k <= count), f64
};
Chunks chunks_of(const ViewShape& shape);

// The f32 terms of a sum at one element of channel c in chunk k.
using Terms = std::function<std::vector<Halide::Expr>(const Place& at, Halide::Expr c, Halide::Expr k)>;

// f32 accumulators, one a term. Each update is one loop over what is added; `vector` is the loop that runs along
// contiguous elements.
struct Accumulators {
    Halide::Func f;
    struct Update {
        Halide::VarOrRVar vector;
        std::vector<Halide::RVar> loops;  // innermost first; without `vector`
        bool by_rows = false;             // the outermost loop is over rows, and channels' rows are neighbours
    };
    std::vector<Update> updates;
};

// Those of a chunk, or of its first step.
//   planar       all.f(l, c, k): 16 lanes     interleaved  all.f(c, k)
// Where rows are added one by one and a row is more than an expression, row.f(l, c, k, n) has each row's; otherwise it
// is undefined. The one update of `all` then takes it.
struct ChunkSum {
    int terms;
    Accumulators all, row;
};

// The sums of one half of a planar chunk's lanes with the other half, (l, c, k) f64.
struct Fold {
    Halide::Func f;
    int lanes;  // that are left
};

// Parts that are merged into one, one after the other: chunks into a group, groups into a section, sections into all.
struct Level {
    Halide::Func sums;    // (c, i) f64; of all of a channel: (c)
    Halide::RVar in;      // its update's loop over the parts
    Halide::Expr count;   // how many such levels' sums a channel has
    Halide::Func result;  // the same place, from `sums` alone
};

// A sum over all of a channel: chunks, groups of them, sections of groups, all sections. With every Func between that a
// schedule may place.
struct Reduction {
    Chunks chunks;
    std::vector<ChunkSum> sums;        // in the order in which they are made
    std::vector<Fold> folds;           // in the order in which they are made
    std::vector<Halide::Func> pivots;  // (c, k): what a later sum takes from an earlier one
    Halide::Func chunk;                // (c, k) f64: a chunk's result
    Level group, section, total;
};

// total.result(c) = {M2, mean}: the centred second moment and the mean of the f32 values `element`. `suffix` tells two
// apart.
Reduction statistics(const ViewShape& shape, const std::function<Halide::Expr(const Place&)>& element,
                     const std::string& suffix);

// total.result(c)[i] = the sum of terms[i]; zeros, made without reading anything, where `wanted` is false.
Reduction plain_sums(const ViewShape& shape, int terms_count, const Terms& terms, Halide::Expr wanted);

// Values in a channel, f64.
Halide::Expr count_of(const ViewShape& shape);

// The Vars that all Funcs share.
namespace vars {
extern const Halide::Var s, c, n, r, l, k, g;
}

}  // namespace fusebn
