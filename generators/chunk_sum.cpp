#include "generators/chunk_sum.h"

#include <algorithm>
#include <functional>

#include "generators/numerics.h"

namespace fusebn {

using namespace Halide;

std::optional<int> constant(const Expr& e) {
    if (const auto v = Internal::as_const_int(Internal::simplify(e))) return static_cast<int>(*v);
    return std::nullopt;
}

Expr ceil_div(const Expr& a, int b) { return (a + (b - 1)) / b; }

Expr planar_row_chunks(const ViewShape& t) { return ceil_div(t.inner, numerics::planar::chunk_elements); }

Expr planar_chunk_rows(const ViewShape& t) {
    using namespace numerics::planar;
    return clamp(chunk_elements / t.inner, 1, chunk_rows);
}

namespace {

PlanarChunk planar_chunk(const ViewShape& t, const Expr& k) {
    using namespace numerics::planar;
    PlanarChunk p;
    p.longest = chunk_elements;
    const Expr per_row = planar_row_chunks(t);
    p.max_rows = planar_chunk_rows(t);
    p.first_n = (k / per_row) * p.max_rows;
    p.first_s = (k % per_row) * chunk_elements;
    p.rows = min(p.max_rows, t.outer - p.first_n);
    p.length = min(chunk_elements, t.inner - p.first_s);
    if (const auto S = constant(t.inner)) {
        if (*S >= chunk_elements) p.lengths.push_back(chunk_elements);
        if (*S % chunk_elements) p.lengths.push_back(*S % chunk_elements);
        if (p.lengths.size() == 1) p.length = p.lengths[0];
    }
    return p;
}

PlanarChunk first_step(PlanarChunk p) {
    using numerics::planar::step;
    std::vector<int> lengths;
    for (int length : p.lengths) {
        if (lengths.empty() || std::min(length, step) != lengths[0]) lengths.push_back(std::min(length, step));
    }
    p.length = lengths.size() == 1 ? Expr(lengths[0]) : min(p.length, step);
    p.lengths = lengths;
    p.longest = step;
    p.rows = min(p.rows, 1);  // none: a chunk that the group's last turn has not
    p.max_rows = 1;
    return p;
}

}  // namespace

PlanarChunk planar_part(const ViewShape& t, const Expr& k, Part part) {
    return part == Part::whole ? planar_chunk(t, k) : first_step(planar_chunk(t, k));
}

int interleaved_rows(Part part) { return part == Part::whole ? numerics::interleaved::chunk_rows : numerics::tree; }

Vector operator+(const Vector& a, const Vector& b) {
    Vector sum;
    for (size_t i = 0; i < a.size(); ++i) sum.push_back(a[i] + b[i]);
    return sum;
}

Vector values(const FuncRef& f, size_t terms) {
    if (terms == 1) return {Expr(f)};
    Vector v;
    for (size_t i = 0; i < terms; ++i) v.push_back(f[static_cast<int>(i)]);
    return v;
}

void assign(FuncRef f, const Vector& v) {
    if (v.size() == 1) {
        f = v[0];
    } else {
        f = Tuple(v);
    }
}

namespace {

// ((v0+v1)+(v2+v3)) + ((v4+v5)+(v6+v7))
Vector tree_sum(const std::function<Vector(int)>& value, int first = 0, int count = numerics::tree) {
    if (count == 1) return value(first);
    return tree_sum(value, first, count / 2) + tree_sum(value, first + count / 2, count / 2);
}

// A row of a planar chunk, as far as its length is known.
class Row {
public:
    Row(const ViewShape& t, const PlanarChunk& chunk, const Terms& terms, const Expr& k)
        : chunk_(chunk),
          at_([=](const Expr& s, const Expr& n) {
              return terms({chunk.first_s + s, vars::c, within(t, chunk.first_n + n, t.outer)}, vars::c, k);
          }),
          within_([=](const Expr& s) { return within(t, s, chunk.length); }) {}

    // An expression will do: one step at most, and no elements that only a condition keeps from being read.
    bool is_short() const {
        const std::vector<int>& known = chunk_.lengths;
        return known.size() == 1 && known[0] >= numerics::planar::lanes && known[0] < 2 * numerics::planar::step;
    }

    // All of a short row n.
    Vector sum(const Expr& n) const {
        Vector v;
        const auto add = [&](const Vector& part) { v = v.empty() ? part : v + part; };
        for (int vectors = numerics::tree; vectors >= 1; vectors /= 2) {
            if (most(vectors) > 0) add(tree(vectors, 0, n));
        }
        if (has_tail()) add(tail(0, n));
        return v;
    }

    // Adds row n, part by part, to the accumulators at `place`.
    void add_parts(Accumulators& sums, const std::string& name, const std::vector<Expr>& place, const Expr& n) const {
        using vars::l;
        const auto add = [&](RDom& r, const Vector& v) {
            const FuncRef sum = sums.f(place);
            assign(sum, values(sum, v.size()) + v);
            sums.updates.push_back({l, {r.x}});
        };
        for (int vectors = numerics::tree; vectors >= 1; vectors /= 2) {
            const int count = most(vectors);
            if (count == 0) continue;
            RDom r(0, count, name + "_" + std::to_string(vectors));
            if (chunk_.lengths.size() != 1) r.where(first(vectors, r.x) + width(vectors) <= chunk_.length);
            if (!constant(chunk_.rows)) r.where(n < chunk_.rows);
            add(r, tree(vectors, r.x, n));
        }
        if (!has_tail()) return;
        RDom r(0, 1, name + "_tail");
        if (!constant(chunk_.rows)) r.where(n < chunk_.rows);
        if (!always_whole_vector()) r.where(is_left());
        add(r, always_whole_vector() ? tail(r.x, n) : at_(tail_place(r.x), n));
    }

private:
    static Expr within(const ViewShape& t, const Expr& place, const Expr& extent) {
        return t.stays_within ? Internal::simplify(min(place, extent - 1)) : place;
    }
    static int width(int vectors) { return vectors * numerics::planar::lanes; }

    // Steps, then half, quarter and eighth steps, each at most once a row: how many of them any chunk's rows have.
    int most(int vectors) const {
        const auto in = [&](int length) {
            return vectors == numerics::tree ? length / width(vectors) : length / width(vectors) % 2;
        };
        if (chunk_.lengths.empty()) return in(vectors == numerics::tree ? chunk_.longest : width(vectors));
        int m = 0;
        for (int length : chunk_.lengths) m = std::max(m, in(length));
        return m;
    }
    Expr first(int vectors, const Expr& turn) const {
        const Expr before =
            vectors == numerics::tree ? Expr(0) : chunk_.length / (2 * width(vectors)) * (2 * width(vectors));
        return before + turn * width(vectors);
    }
    Vector tree(int vectors, const Expr& turn, const Expr& n) const {
        const Expr start = first(vectors, turn);
        return tree_sum([&](int i) { return at_(start + i * numerics::planar::lanes + vars::l, n); }, 0, vectors);
    }

    // The last vector of a row, less what the vectors before it have had.
    bool has_tail() const {
        return chunk_.lengths.empty() || std::any_of(chunk_.lengths.begin(), chunk_.lengths.end(),
                                                     [](int length) { return length % numerics::planar::lanes != 0; });
    }
    bool always_whole_vector() const {
        return !chunk_.lengths.empty() &&
               *std::min_element(chunk_.lengths.begin(), chunk_.lengths.end()) >= numerics::planar::lanes;
    }
    // `turn` is 0: an update's loop.
    Expr tail_place(const Expr& turn) const {
        return within_(max(chunk_.length - numerics::planar::lanes, 0) + turn + vars::l);
    }
    Expr is_left() const {
        using numerics::planar::lanes;
        return select(chunk_.length < lanes, vars::l < chunk_.length, vars::l >= lanes - chunk_.length % lanes);
    }
    Vector tail(const Expr& turn, const Expr& n) const {
        Vector v = at_(tail_place(turn), n);
        for (Expr& e : v) e = select(is_left(), e, cast<float>(0));
        return v;
    }

    PlanarChunk chunk_;
    std::function<Vector(const Expr& s, const Expr& n)> at_;
    std::function<Expr(const Expr& s)> within_;
};

ChunkSum planar_chunk_sum(const std::string& name, const ViewShape& t, Part part, int terms_count, const Terms& terms) {
    using vars::c, vars::k, vars::l, vars::n;
    const auto count = static_cast<size_t>(terms_count);
    const PlanarChunk p = planar_part(t, k, part);
    const Row row(t, p, terms, k);
    const Vector zero(count, cast<float>(0));

    ChunkSum sum{terms_count, {Func(name), {}}, {}};
    Func& f = sum.all.f;
    assign(f(l, c, k), zero);
    if (const auto rows = constant(p.max_rows); rows && *rows == 1 && !row.is_short()) {
        row.add_parts(sum.all, name, {l, c, k}, 0);
        return sum;
    }
    RDom r(0, p.max_rows, name + "_rows");
    if (!constant(p.rows)) r.where(r < p.rows);
    Vector v;
    if (row.is_short()) {
        v = row.sum(r);
    } else {
        sum.row.f = Func(name + "_row");
        assign(sum.row.f(l, c, k, n), zero);
        row.add_parts(sum.row, name, {l, c, k, n}, n);
        v = values(sum.row.f(l, c, k, r), count);
    }
    assign(f(l, c, k), values(f(l, c, k), count) + v);
    sum.all.updates.push_back({l, {r.x}, true});
    return sum;
}

ChunkSum interleaved_chunk_sum(const std::string& name, const ViewShape& t, Part part, int terms_count,
                               const Terms& terms) {
    using vars::c, vars::k;
    const auto count = static_cast<size_t>(terms_count);
    const int most = interleaved_rows(part);
    const Expr first = k * numerics::interleaved::chunk_rows;
    const Expr rows = clamp(t.outer - first, 0, most);  // 0: a chunk that the group's last turn has not
    const auto at = [&](const Expr& row) { return terms({c, first + row}, c, k); };
    const auto R = constant(t.outer);
    // A group's last chunks may not be there, and then have no rows: a schedule that makes all of a group's side by
    // side must not read them.
    const int together = t.stays_within ? numerics::interleaved::chunks_per_group : 1;
    const bool whole_chunks = R && *R % (numerics::interleaved::chunk_rows * together) == 0;

    ChunkSum sum{terms_count, {Func(name), {}}, {}};
    Func& f = sum.all.f;
    assign(f(c, k), Vector(count, cast<float>(0)));
    if (!R || *R >= numerics::tree) {
        RDom r(0, most / numerics::tree, name + "_step");
        if (!whole_chunks) r.where((r.x + 1) * numerics::tree <= rows);
        const Vector v = tree_sum([&](int i) { return at(r.x * numerics::tree + i); });
        assign(f(c, k), values(f(c, k), count) + v);
        sum.all.updates.push_back({c, {r.x}});
    }
    if (!R || *R % numerics::tree != 0) {
        RDom r(0, numerics::tree - 1, name + "_row");
        const Expr done = rows / numerics::tree * numerics::tree;
        r.where(done + r.x < rows);
        assign(f(c, k), values(f(c, k), count) + at(done + r.x));
        sum.all.updates.push_back({c, {r.x}});
    }
    return sum;
}

}  // namespace

ChunkSum chunk_sum(const std::string& name, const ViewShape& t, Part part, int terms_count, const Terms& terms) {
    return t.view == View::planar ? planar_chunk_sum(name, t, part, terms_count, terms)
                                  : interleaved_chunk_sum(name, t, part, terms_count, terms);
}

}  // namespace fusebn
