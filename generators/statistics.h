// Sums over a channel, and the statistics made of them, in the order that numerics.h fixes.
#pragma once

#include <Halide.h>

#include <functional>
#include <string>
#include <vector>

#include "fusebn/types.h"

namespace fusebn {

// A tensor in one of the two views. Extents are constants where the shape is fixed.
//   planar       x(s, c, n)   outer = N, inner = S
//   interleaved  x(c, r)      outer = R, inner = 1
struct TensorView {
    View view;
    Halide::Func x;
    Halide::Expr outer, channels, inner;
};

// How a channel is cut into chunks. `at` enumerates chunk k's rows and elements.
struct Chunks {
    Halide::Expr count;                                    // chunks in a channel
    int per_group;                                         // chunks merged into one group
    Halide::Expr groups;                                   // ceil(count / per_group)
    std::function<Halide::Expr(Halide::Expr k)> elements;  // values in chunk k, f64
    std::function<Halide::Expr(Halide::Expr k)> before;    // values in all chunks before k (k <= count), f64
};
Chunks chunks_of(const TensorView& t);

// The terms of a sum at one element of channel c in chunk k; `x` is the element, f32.
using Terms = std::function<std::vector<Halide::Expr>(Halide::Expr x, Halide::Expr c, Halide::Expr k)>;

// The f32 accumulators of a chunk.
//   planar       f(l, c, k): 16 lanes        interleaved  f(c, k)
// Each update is one loop over the chunk; `vector` is the loop that runs along contiguous elements.
struct ChunkSum {
    Halide::Func f;
    struct Update {
        Halide::VarOrRVar vector;
        std::vector<Halide::RVar> loops;  // over the chunk, innermost first; without `vector`
    };
    std::vector<Update> updates;
};
ChunkSum chunk_sum(const std::string& name, const TensorView& t, const Terms& terms);

// A chunk's accumulators folded to one f64 per term: value(term, c, k).
Halide::Expr folded(const ChunkSum& sum, View view, int term, Halide::Expr c, Halide::Expr k);

// mean and centred second moment M2 of every channel, with every Func between that a schedule may place.
struct Statistics {
    Chunks chunks;
    ChunkSum sum;        // of x
    Halide::Func pivot;  // (c, k)  f32: the chunk's mean, roughly
    ChunkSum moments;    // of d = x - pivot: {d, d^2}
    Halide::Func chunk;  // (c, k)  f64 {M2, mean}
    Halide::Func group;  // (c, g)  f64 {M2, mean}
    Halide::RVar in_group;
    Halide::Func total;  // (c)     f64 {M2, mean}
    Halide::RVar in_total;
    Halide::Expr count;  // values in a channel, f64
};
Statistics statistics(const TensorView& t);

// The Vars that all Funcs share.
namespace vars {
extern const Halide::Var s, c, n, r, l, k, g;
}

}  // namespace fusebn
