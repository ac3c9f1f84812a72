#include "quant/iq4/layout.h"
#include "quant/search/searches.h"

namespace millrace {
namespace {
constexpr int kLanes = 4;  // SSE2 and NEON, which every machine of its kind has
#include "quant/search/searches.inl"
}  // namespace

const Searches& plain_searches() { return kSearches; }

}  // namespace millrace
