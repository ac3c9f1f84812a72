#include "base/version.h"

#include <fmt/format.h>
#include <sys/stat.h>

namespace millrace {

std::string_view version() { return MILLRACE_VERSION; }

std::string build_id() {
  struct stat file {};
  if (::stat("/proc/self/exe", &file) != 0) return "";
  return fmt::format("{} {}.{}", file.st_size, file.st_mtim.tv_sec, file.st_mtim.tv_nsec);
}

}  // namespace millrace
