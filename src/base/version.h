// Which release this is.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// "0.1.0", as CMakeLists.txt says it.
std::string_view version();

// Another text for every other build: size and time of the program's file. Empty where /proc is not there.
std::string build_id();

}  // namespace millrace
