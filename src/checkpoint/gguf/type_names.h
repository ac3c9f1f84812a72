// Names of the tensor types of GGUF that the format table does not hold, for messages.
#pragma once

#include <cstdint>
#include <string_view>

namespace millrace::gguf {

// Empty for an id that is unknown.
std::string_view type_name(uint32_t ggml_type);

}  // namespace millrace::gguf
