// Which schedules of a kernel to measure next. It knows no clock: results are told to it, so that a search goes on
// from records as it would have from measurements.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "schedules/schedule.h"

namespace fusebn {

class Search {
public:
    // `space` has `base` in it; `cost` is a model's, in any unit.
    Search(const Schedule& base, const std::vector<Schedule>& space,
           const std::function<double(const Schedule&)>& cost);

    // Up to `count` schedules that were not measured yet, the most promising first: by the model's cost beside that of
    // the best one so far, which it knows, by how many keys differ from it, and by whether one has a value that nothing
    // measured has. None when the search is over.
    std::vector<Schedule> next(int count) const;

    // A schedule's speed in units of the default's (above 1: faster), in place of what was known of it; or that it
    // failed.
    void measured(const Schedule& schedule, double ratio);
    void failed(const Schedule& schedule);
    // What next() gave was measured.
    void end_generation();

    const Schedule& base() const { return base_; }
    const Schedule& best() const { return best_; }
    double best_ratio() const { return best_ratio_; }
    int generation() const { return generation_; }
    std::size_t space_size() const { return space_.size(); }
    std::size_t tried() const { return tried_.size(); }
    // Nothing is left, or generations brought nothing.
    bool over() const;

private:
    struct Candidate {
        Schedule schedule;
        std::string text;
        double cost;
        std::uint64_t values;  // a bit for each value of a key that the space has
    };
    Schedule base_, best_;
    std::vector<Candidate> space_;
    std::map<std::string, double> tried_;  // by the schedule's text; 0: it failed
    double best_cost_ = 0, best_ratio_ = 1, best_before_ = 1;
    int generation_ = 0, idle_ = 0;
};

}  // namespace fusebn
