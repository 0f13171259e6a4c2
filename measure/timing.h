// Times that can be compared: contenders take turns in one process, and are compared round by round.
//
// In every round each contender has one turn, in a random order, so that whatever else the machine does meets all of
// them alike. A turn starts when no thread of this process runs any more: a pool whose threads still look out for work
// would otherwise take the CPUs of the next contender. It then makes one call that is not timed, which wakes the
// contender's threads and leaves the caches as its own calls leave them, and times the calls after it. (Calls of 50 ms
// and more notice neither, and go without.)
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace fusebn::measure {

struct Contender {
    std::string name;
    std::function<void()> run;
    // Where run() returns when a call is queued: waits for all of them, at the end of a turn. Else none.
    std::function<void()> finish = nullptr;
};

// Rounds go on until `seconds` have passed, within the limits.
struct Budget {
    double seconds = 2;
    int min_rounds = 7;
    int max_rounds = 101;
    // Calls before a turn is timed: what brings sleeping threads back, of contenders with a pool each.
    double warm_up_ms = 30;
};

// Milliseconds of one call, one number a round. Round i of all contenders belongs together.
struct Samples {
    std::string name;
    std::vector<double> ms;
};

struct Quartiles {
    double low, median, high;
};

std::vector<Samples> race(const std::vector<Contender>& contenders, const Budget& budget);

Quartiles quartiles(std::vector<double> values);

// Of a's time over b's, round by round.
Quartiles paired_ratio(const Samples& a, const Samples& b);

// Nanoseconds of one call of a function that returns at once: the median of several loops over it.
double nanoseconds(const std::function<void()>& run);

}  // namespace fusebn::measure
