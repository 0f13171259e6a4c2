// Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance": within a chunk moments of data shifted by
// the mean of a sample, with the correction of eq. 1.7; and the same once more for the means of chunks.

#include "generators/statistics.h"

#include "generators/chunk_sum.h"
#include "generators/numerics.h"

namespace fusebn {

using namespace Halide;

namespace vars {
const Var s("s"), c("c"), n("n"), r("r"), l("l"), k("k"), g("g");
}

namespace {

Expr f64(Expr e) { return cast<double>(std::move(e)); }

}  // namespace

Chunks chunks_of(const ViewShape& t) {
    Chunks chunks;
    if (t.view == View::planar) {
        chunks.count = planar_row_chunks(t) * ((t.outer + planar_chunk_rows(t) - 1) / planar_chunk_rows(t));
        chunks.elements = [t](const Expr& k) {
            const PlanarChunk p = planar_part(t, k, Part::whole);
            return f64(p.rows) * f64(p.length);
        };
        chunks.before = [t](const Expr& k) {
            const Expr per_row = planar_row_chunks(t);
            return f64(min(k / per_row * planar_chunk_rows(t), t.outer)) * f64(t.inner) +
                   f64(k % per_row * numerics::planar::chunk_elements);
        };
    } else {
        using namespace numerics::interleaved;
        chunks.count = ceil_div(t.outer, chunk_rows);
        chunks.elements = [t](const Expr& k) { return f64(min(chunk_rows, t.outer - k * chunk_rows)); };
        chunks.before = [t](const Expr& k) { return f64(min(k * chunk_rows, t.outer)); };
    }
    chunks.count = Internal::simplify(chunks.count);
    return chunks;
}

namespace {

// Values in the first step of chunk k, f64.
Expr first_step_elements(const ViewShape& t, const Expr& k) {
    if (t.view == View::planar) return f64(planar_part(t, k, Part::first_step).length);
    return f64(clamp(t.outer - k * numerics::interleaved::chunk_rows, 1, interleaved_rows(Part::first_step)));
}

// A chunk's accumulators folded to one f64 a term. The halves of lanes between may be placed by a schedule; where none
// does, they are part of the expression.
Vector folded(Reduction& r, const ChunkSum& sum, View view) {
    using vars::c, vars::k, vars::l;
    const auto terms = static_cast<size_t>(sum.terms);
    const auto in_f64 = [&](const FuncRef& f) {
        Vector v = values(f, terms);
        for (Expr& e : v) e = f64(e);
        return v;
    };
    if (view == View::interleaved) return in_f64(sum.all.f(c, k));
    Func lanes = sum.all.f;
    for (int half = numerics::planar::lanes / 2; half > 1; half /= 2) {
        Func next(sum.all.f.name() + "_" + std::to_string(half));
        assign(next(l, c, k), in_f64(lanes(l, c, k)) + in_f64(lanes(l + half, c, k)));
        r.folds.push_back({next, half});
        lanes = next;
    }
    return in_f64(lanes(0, c, k)) + in_f64(lanes(1, c, k));
}

// How parts become one. A part's place among them is `i`; `first` and `last` are the chunks that it begins with and
// that follow it.
struct Merge {
    std::size_t terms;  // of the sums
    // The sums with one more part.
    std::function<Vector(const Vector& sums, const Vector& part, const Expr& i, const Expr& first, const Expr& last)>
        add;
    // A part's value from its sums.
    std::function<Vector(const Vector& sums, const Expr& first, const Expr& last)> result;
};

// Sums over the `parts` of one level, of which `part` is the Func and each is so many chunks. `per` of them make one of
// the new level; 0: all of them do.
Level level(const std::string& name, const Reduction& r, const Func& part, const Expr& parts, int chunks_in_part,
            int per, const Expr& wanted, const Merge& merge) {
    using vars::c, vars::g;
    const auto size = static_cast<size_t>(part.outputs());
    const bool all = per == 0;
    const auto known = constant(parts);
    Level l;
    l.count = all ? Expr(1) : Internal::simplify(ceil_div(parts, per));
    l.sums = Func(name + "_sums");
    l.result = Func(name);
    const auto at = [&](Func& f) { return all ? f(c) : f(c, g); };
    const Expr start = all ? Expr(0) : g * per;
    assign(at(l.sums), Vector(merge.terms, cast<double>(0)));
    RDom in(0, all ? parts : Internal::simplify(min(parts, per)), "in_" + name);
    const Expr i = Internal::simplify(start + in);
    const bool ragged = !all && !(known && (*known <= per || *known % per == 0));
    // Of chunks, which may be made one by one, none that is not there. Of what is there already a select: a device can
    // then have many of them on their way at once.
    const bool one_by_one = part.name() == r.chunk.name();
    if (wanted.defined()) in.where(wanted);
    if (ragged && one_by_one) in.where(i < parts);
    const auto chunk = [&](const Expr& p) { return min(p * chunks_in_part, r.chunks.count); };
    const Vector before = values(at(l.sums), merge.terms);
    const Expr read = ragged && !one_by_one ? min(i, parts - 1) : i;
    Vector after = merge.add(before, values(part(c, read), size), in, chunk(i), chunk(i + 1));
    for (size_t term = 0; ragged && !one_by_one && term < after.size(); ++term) {
        after[term] = select(i < parts, after[term], before[term]);
    }
    assign(at(l.sums), after);
    l.in = in.x;
    assign(at(l.result),
           merge.result(values(at(l.sums), merge.terms), chunk(start), all ? r.chunks.count : chunk(start + per)));
    return l;
}

void reduce_chunks(Reduction& r, const ViewShape& t, const std::string& suffix, const Expr& wanted,
                   const Merge& merge) {
    const int per_group =
        t.view == View::planar ? numerics::planar::chunks_per_group : numerics::interleaved::chunks_per_group;
    const int per_section = numerics::groups_per_section;
    r.group = level("group" + suffix, r, r.chunk, r.chunks.count, 1, per_group, wanted, merge);
    r.section = level("section" + suffix, r, r.group.result, r.group.count, per_group, per_section, wanted, merge);
    r.total = level("total" + suffix, r, r.section.result, r.section.count, per_group * per_section, 0, wanted, merge);
}

}  // namespace

Expr count_of(const ViewShape& t) { return f64(t.outer) * f64(t.inner); }

Reduction statistics(const ViewShape& t, const std::function<Expr(const Place&)>& element, const std::string& suffix) {
    using vars::c, vars::k;
    Reduction r;
    r.chunks = chunks_of(t);
    const ChunkSum sum = chunk_sum("sum" + suffix, t, Part::first_step, 1,
                                   [&](const Place& at, const Expr&, const Expr&) { return Vector{element(at)}; });
    Func pivot("pivot" + suffix);
    pivot(c, k) = cast<float>(folded(r, sum, t.view)[0] / first_step_elements(t, k));

    // The pivot is only near the mean; sum(d) corrects both moments for that, to first order and to the last bit of an
    // f64: mean = pivot + sum(d) / n,  M2 = sum(d^2) - sum(d)^2 / n. The mean of s of the n values is off by no more
    // than sigma * sqrt(n / s - 1), so sum(d^2) is at most n / s times M2, and what its roundings do is bounded. To
    // know the chunk's own mean beforehand would take another reading: 1.1 to 1.3 times the time.
    const ChunkSum moments =
        chunk_sum("moments" + suffix, t, Part::whole, 2, [&](const Place& at, const Expr& c, const Expr& k) {
            const Expr d = element(at) - pivot(c, k);
            return Vector{d, d * d};
        });
    r.sums = {sum, moments};
    r.pivots = {pivot};
    r.chunk = Func("chunk" + suffix);
    const Expr count = r.chunks.elements(k);
    const Vector of_moments = folded(r, moments, t.view);
    const Expr d = of_moments[0], d2 = of_moments[1];
    r.chunk(c, k) = Tuple(d2 - d * d / count, f64(pivot(c, k)) + d / count);

    // The same formulas once more, of means: with p the first part's, D = mean - p and m values in a part,
    //     mean = p + sum(m D) / n,   M2 = sum(M2) + sum(m D^2) - sum(m D)^2 / n
    // p comes last because the others read it as it was: under strict_float Halide 21 computes and stores the elements
    // of a tuple one after the other, so an element may read only itself and those after it.
    const auto before = r.chunks.before;
    Merge merge;
    merge.terms = 4;
    merge.add = [before](const Vector& sums, const Vector& part, const Expr& i, const Expr& first, const Expr& last) {
        const Expr m = before(last) - before(first), p = sums[3];
        const Expr D = select(i == 0, cast<double>(0), part[1] - p);
        return Vector{sums[0] + part[0], sums[1] + m * D, sums[2] + m * D * D, select(i == 0, part[1], p)};
    };
    merge.result = [before](const Vector& sums, const Expr& first, const Expr& last) {
        const Expr n = before(last) - before(first);
        return Vector{sums[0] + (sums[2] - sums[1] * sums[1] / n), sums[3] + sums[1] / n};
    };
    reduce_chunks(r, t, suffix, Expr(), merge);
    return r;
}

Reduction plain_sums(const ViewShape& t, int terms_count, const Terms& terms, Expr wanted) {
    using vars::c, vars::k;
    Reduction r;
    r.chunks = chunks_of(t);
    r.sums = {chunk_sum("sums", t, Part::whole, terms_count, terms)};
    r.chunk = Func("chunk");
    const Vector results = folded(r, r.sums[0], t.view);
    assign(r.chunk(c, k), results);
    Merge merge;
    merge.terms = results.size();
    merge.add = [](const Vector& sums, const Vector& part, const Expr&, const Expr&, const Expr&) {
        return sums + part;
    };
    merge.result = [](const Vector& sums, const Expr&, const Expr&) { return sums; };
    reduce_chunks(r, t, "", wanted, merge);
    return r;
}

}  // namespace fusebn
