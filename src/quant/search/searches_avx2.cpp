#if defined(__x86_64__)

#include "quant/iq4/layout.h"
#include "quant/search/searches.h"

namespace millrace {
namespace {
constexpr int kLanes = 8;
#include "quant/search/searches.inl"
}  // namespace

const Searches& avx2_searches() { return kSearches; }

}  // namespace millrace

#endif
