#include "cli/option_text.h"

#include "base/file.h"

namespace millrace {

bool is_json(std::string_view given, char sign) {
  const size_t first = given.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && given[first] == sign;
}

std::string read_option_file(const std::string& name) {
  return read_file(name, size_t{4} << 20, ErrorKind::usage);
}

}  // namespace millrace
