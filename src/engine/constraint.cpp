#include "engine/constraint.h"

#include <algorithm>

#include "base/error.h"

namespace millrace {

void Constraint::allow(std::vector<uint64_t>& allowed) {
  try {
    matcher_.fill(allowed);
  } catch (const Error& error) {
    fault_ = error.what();
    return;
  }
  if (!matcher_.is_complete()) return;
  for (const int32_t token : end_tokens_) {
    const auto t = static_cast<size_t>(token);
    if (token >= 0 && t / 64 < allowed.size()) allowed[t / 64] |= uint64_t{1} << (t % 64);
  }
}

bool Constraint::allows(std::span<const int32_t> tokens) const {
  GrammarMatcher tried = matcher_;
  try {
    return std::ranges::all_of(tokens, [&](int32_t token) { return tried.accept(token); });
  } catch (const Error&) {
    return false;
  }
}

void Constraint::accept(int32_t token) {
  try {
    check(matcher_.accept(token), "an allowed token was drawn");
  } catch (const Error& error) {
    fault_ = error.what();
  }
}

std::vector<int32_t> Constraint::forced() {
  constexpr size_t kMaxBytes = 512, kWorthIt = 8;
  try {
    const std::string text = matcher_.forced(kMaxBytes);
    return text.size() < kWorthIt ? std::vector<int32_t>() : matcher_.grammar().tokens().spell(text);
  } catch (const Error& error) {
    fault_ = error.what();
    return {};
  }
}

}  // namespace millrace
