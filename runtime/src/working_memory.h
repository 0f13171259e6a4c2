// Working memory of kernels (sums on their way to a channel's), kept from call to call: malloc may give large blocks
// back to the system each time they are freed, and each call would then wait for new pages.
#pragma once

#include <cstdint>

#include "fusebn/kernel_abi.h"

namespace fusebn::detail {

// All that is kept, of all calls through this copy of the runtime, at most.
inline constexpr std::uint64_t most_kept_bytes = 16 << 20;

// fusebn_context's take and give. They never wait: what is in use by another thread at that moment is passed by.
void* take_memory(const fusebn_context* context, std::uint64_t bytes) noexcept;
void give_memory(const fusebn_context* context, void* memory) noexcept;

// In the child of a fork: where another thread of the parent was about to change what is kept, that is lost to it.
void forget_memory_in_child() noexcept;

// What is kept now.
std::uint64_t kept_bytes() noexcept;
// Frees what is kept, and keeps nothing from now on where `for_good`: at exit, or when the shared library that this is
// part of is closed.
void drop_memory(bool for_good) noexcept;

}  // namespace fusebn::detail
