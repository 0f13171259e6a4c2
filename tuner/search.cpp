#include "tuner/search.h"

#include <algorithm>

#include "tuner/space.h"

namespace fusebn {

namespace {

// A key that differs from the best schedule's counts as much as so much more predicted cost: near ones first.
constexpr double strangeness = 0.06;
// And one that is but a key away from another of the same generation, so much.
constexpr double likeness = 0.04;
// A generation that gained less than this brought nothing; after so many of them the search is over.
constexpr double gain = 1.01;
constexpr int patience = 3;

}  // namespace

Search::Search(const Schedule& base, const std::vector<Schedule>& space,
               const std::function<double(const Schedule&)>& cost)
    : base_(base), best_(base), best_cost_(cost(base)) {
    for (const Schedule& s : space) space_.push_back({s, to_text(s), cost(s)});
    tried_[to_text(base)] = 1;
}

std::vector<Schedule> Search::next(int count) const {
    std::vector<Schedule> chosen;
    if (over()) return chosen;
    std::vector<std::pair<double, const Schedule*>> ranked;
    for (const Candidate& c : space_) {
        if (tried_.count(c.text)) continue;
        ranked.emplace_back(c.cost / best_cost_ * (1 + strangeness * distance(c.schedule, best_)), &c.schedule);
    }
    while (!ranked.empty() && static_cast<int>(chosen.size()) < count) {
        const auto first = std::min_element(ranked.begin(), ranked.end(),
                                            [](const auto& a, const auto& b) { return a.first < b.first; });
        const Schedule next = *first->second;
        ranked.erase(first);
        // Another way before a twin of this one.
        for (auto& [rank, schedule] : ranked) {
            if (distance(*schedule, next) < 2) rank *= 1 + likeness;
        }
        chosen.push_back(next);
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
