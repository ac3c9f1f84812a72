// Names of what pages and slots hold, for places that outlive them: a digest of all tokens up to the end of a
// page, from that of the page before. Who knows the tokens knows the name; nobody makes two beginnings that
// share one.
#pragma once

#include <cstdint>
#include <span>

#include "base/sha256.h"

namespace millrace {

using PageKey = Digest;

// Where every sequence of that salt begins.
PageKey root_key(int32_t salt);
// Of the page with `tokens`, all of it, after `before`.
PageKey next_key(const PageKey& before, std::span<const int32_t> tokens);
// Of the state after that page.
PageKey state_key(const PageKey& page);
// Of its pane.
PageKey pane_key(const PageKey& page);
// Of what one sequence keeps for itself: its page, or -1 for its state.
PageKey parked_key(uint64_t sequence, int64_t page);

}  // namespace millrace
