// The numerical contract: the order of every sum.
//
// Everything that decides a rounding stands here and depends on layout and extents alone, never on a schedule, a thread
// count, an instruction set or a device. Sums are formed in five steps:
//
//   step     a tree of eight:  ((v0+v1)+(v2+v3)) + ((v4+v5)+(v6+v7)), in f32
//   chunk    steps, or rows of steps, added one after the other, in f32, while the chunk lies in the L1 or L2 cache
//   group    chunks merged one after the other, in f64
//   section  groups merged one after the other, in f64
//   total    sections merged one after the other, in f64
//
//   planar       A row is vectors of 16 lanes, and eight of them, 128 elements, a step. To a row's steps, one after the
//                other, what is left is added as a half, a quarter and an eighth of a step (trees of four, two and
//                one), then the last elements that make no vector: in the last lanes of the row's last 16 elements, or
//                in the first lanes where the row has fewer than 16. A chunk is 2048 elements of one row, or the sum of
//                as many whole rows as fit (at most 32), one after the other. The 16 lanes are then folded pairwise (8,
//                4, 2, 1) in f64.
//   interleaved  every channel by itself. A step is eight rows, what is left is added row by row. A chunk is 64 rows.
//
// The values of a variance are first shifted by their chunk's pivot: the mean of its first step, in f32. Planar that is
// of its first row, and all of it where it is shorter; interleaved the first eight rows, or as many as there are.
//
// 16 lanes are one zmm, two ymm or four xmm registers, so each instruction set can hold the accumulators of both
// moments in registers, and the tree of eight gives eight independent loads per accumulation. The rounding error of a
// tree grows with the logarithm of its size, that of an accumulator with the number of its additions: at most 19 in a
// chunk of one row, 36 in one of many short rows, 8 (and 7 at the end) in an interleaved one.
//
// A row's remainder goes with the row, so that one reading of it is enough: of 49 elements, three vectors and one,
// every lane's sum is one expression.
#pragma once

namespace fusebn::numerics {

inline constexpr int tree = 8;  // values added as a tree before they reach an accumulator

// Three levels keep every chain of additions short that a device with thousands of threads must wait for: the longest
// of 3 million rows is 64.
inline constexpr int groups_per_section = 64;

namespace planar {
inline constexpr int lanes = 16;
inline constexpr int step = tree * lanes;    // elements of a row
inline constexpr int chunk_elements = 2048;  // 8 KB: a quarter of the smallest L1 cache in use
inline constexpr int chunk_rows = 32;
inline constexpr int chunks_per_group = 64;
}  // namespace planar

namespace interleaved {
inline constexpr int chunk_rows = 64;
inline constexpr int chunks_per_group = 16;
}  // namespace interleaved

}  // namespace fusebn::numerics
