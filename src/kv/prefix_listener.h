// Who wants to know what the prefix cache holds: routers that send a request where its beginning is known.
#pragma once

#include <cstdint>
#include <span>

#include "kv/page_key.h"

namespace millrace {

// Told by the thread that plans, which must not wait.
class PrefixListener {
 public:
  virtual ~PrefixListener() = default;

  // `tokens`, a whole page, are known from now on. `before`: the page that they follow; nullptr for the
  // first.
  virtual void stored(const PageKey& key, const PageKey* before, std::span<const int32_t> tokens) = 0;
  virtual void removed(const PageKey& key) = 0;
};

}  // namespace millrace
