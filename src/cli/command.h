// A command of the user, run with a text on its standard input.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace {

struct CommandResult {
  std::string output;  // of its standard output, at most what was asked for
  bool is_cut = false;
  int status = 0;  // its exit status, or 128 and the signal that ended it, as shells have it
};

// Runs `command` with /bin/sh and waits for its end. Its standard error is ours. Throws Error(runtime) where
// it cannot be started, or its output not be read.
CommandResult run_command(const std::string& command, std::string_view input, size_t max_output_bytes);

}  // namespace millrace
