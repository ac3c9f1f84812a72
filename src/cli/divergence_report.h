// A divergence as lines of text, or as JSON.
#pragma once

#include "base/json.h"
#include "engine/divergence.h"

namespace millrace {

void print_divergence(const Divergence& divergence);
Json json_of(const Divergence& divergence);

}  // namespace millrace
