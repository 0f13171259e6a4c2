#include "tuner/search.h"

#include <algorithm>
#include <set>
#include <sstream>

#include "tuner/space.h"

namespace fusebn {

namespace {

// A key that differs from the best schedule's counts as much as so much more predicted cost: near ones first.
constexpr double strangeness = 0.06;
// And one that is but a key away from another of the same generation, so much.
constexpr double likeness = 0.04;
// A value of a key that nothing tried has counts as so much less: a model that is wrong about it is found out early.
constexpr double curiosity = 0.1;
// A generation that gained less than this brought nothing; after so many of them the search is over.
constexpr double gain = 1.01;
constexpr int patience = 3;

// "prefetch=1", ...: of the keys that have few of them.
std::vector<std::string> values(const std::string& text) {
    std::vector<std::string> all;
    std::istringstream in(text);
    std::set<std::string> left_out = {"repeat=1", "steps=0"};
    for (std::string item; in >> item;) {
        const std::string key = item.substr(0, item.find('='));
        if (key != "task" && key != "unroll") all.push_back(item);
        left_out.erase(key == "repeat" ? "repeat=1" : key == "steps" ? "steps=0" : "");
    }
    all.insert(all.end(), left_out.begin(), left_out.end());
    return all;
}

}  // namespace

Search::Search(const Schedule& base, const std::vector<Schedule>& space,
               const std::function<double(const Schedule&)>& cost)
    : base_(base), best_(base), best_cost_(cost(base)) {
    std::map<std::string, int> bits;
    for (const Schedule& s : space) {
        Candidate c{s, to_text(s), cost(s), 0};
        for (const std::string& value : values(c.text)) {
            const int bit = bits.emplace(value, static_cast<int>(bits.size())).first->second;
            if (bit < 64) c.values |= std::uint64_t{1} << bit;
        }
        space_.push_back(std::move(c));
    }
    tried_[to_text(base)] = 1;
}

std::vector<Schedule> Search::next(int count) const {
    std::vector<Schedule> chosen;
    if (over()) return chosen;
    std::uint64_t known = 0;
    std::vector<std::pair<double, const Candidate*>> ranked;
    for (const Candidate& c : space_) {
        if (tried_.count(c.text)) {
            known |= c.values;
        } else {
            ranked.emplace_back(c.cost / best_cost_ * (1 + strangeness * distance(c.schedule, best_)), &c);
        }
    }
    const auto rank = [&](const auto& r) { return r.first * (r.second->values & ~known ? 1 - curiosity : 1); };
    while (!ranked.empty() && static_cast<int>(chosen.size()) < count) {
        const auto first = std::min_element(ranked.begin(), ranked.end(),
                                            [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
        const Candidate& next = *first->second;
        ranked.erase(first);
        known |= next.values;
        // Another way before a twin of this one.
        for (auto& [cost, candidate] : ranked) {
            if (distance(candidate->schedule, next.schedule) < 2) cost *= 1 + likeness;
        }
        chosen.push_back(next.schedule);
    }
    return chosen;
}

void Search::measured(const Schedule& schedule, double ratio) {
    tried_[to_text(schedule)] = ratio;
    best_ratio_ = 0;
    for (const Candidate& c : space_) {
        const auto known = tried_.find(c.text);
        if (known == tried_.end() || known->second <= best_ratio_) continue;
        best_ratio_ = known->second;
        best_ = c.schedule;
        best_cost_ = c.cost;
    }
}

void Search::failed(const Schedule& schedule) { measured(schedule, 0); }

void Search::end_generation() {
    ++generation_;
    idle_ = best_ratio_ < best_before_ * gain ? idle_ + 1 : 0;
    best_before_ = best_ratio_;
}

bool Search::over() const { return idle_ >= patience || tried_.size() >= space_.size(); }

}  // namespace fusebn
