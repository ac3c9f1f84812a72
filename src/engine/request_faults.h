// What a request asks that its engine cannot do.
#pragma once

#include <optional>
#include <string>

#include "engine/engine.h"

namespace millrace {

struct RequestFault {
  RefusalReason reason;
  std::string sentence;  // with the numbers
};
// `options` are filled in.
std::optional<RequestFault> find_fault(const Request& request, const ModelShape& shape,
                                       const Engine::Options& options);

}  // namespace millrace
