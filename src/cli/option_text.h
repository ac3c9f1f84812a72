// Options whose value is JSON, or the name of a file.
#pragma once

#include <string>
#include <string_view>

namespace millrace {

// Whether the value is JSON that begins with `sign`.
bool is_json(std::string_view given, char sign);
// What is in the file of an option, at most 4 MiB. Throws Error(usage).
std::string read_option_file(const std::string& name);

}  // namespace millrace
