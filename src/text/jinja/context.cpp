#include "text/jinja/context.h"

#include <algorithm>
#include <ranges>

namespace millrace::jinja {

void Context::set(std::string_view name, Value value) {
  Scope& scope = scopes_.back();
  const auto at = std::ranges::find(scope, name, &std::pair<std::string, Value>::first);
  if (at != scope.end()) {
    at->second = std::move(value);
  } else {
    scope.emplace_back(std::string(name), std::move(value));
  }
}

const Value* Context::find(std::string_view name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto at = std::ranges::find(*scope, name, &std::pair<std::string, Value>::first);
    if (at != scope->end()) return &at->second;
  }
  return nullptr;
}

std::vector<Context::Scope> Context::hide_scopes() {
  std::vector<Scope> hidden(std::make_move_iterator(scopes_.begin() + 1),
                            std::make_move_iterator(scopes_.end()));
  scopes_.resize(1);
  return hidden;
}

void Context::restore_scopes(std::vector<Scope> scopes) {
  scopes_.resize(1);
  scopes_.insert(scopes_.end(), std::make_move_iterator(scopes.begin()),
                 std::make_move_iterator(scopes.end()));
}

void Context::look_at_budget() {
  next_look_ = n_steps_ + 4096;
  if (n_steps_ > kMaxSteps || std::chrono::steady_clock::now() - begin_ > kMaxTime) {
    throw RenderError("the template takes too many steps");
  }
}

}  // namespace millrace::jinja
