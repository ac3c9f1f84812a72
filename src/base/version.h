// Which release this is.
#pragma once

#include <string_view>

namespace millrace {

// "0.1.0", as CMakeLists.txt says it.
std::string_view version();

}  // namespace millrace
