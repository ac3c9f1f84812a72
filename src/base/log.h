// The log: one line an event, to stderr, through spdlog. Never prompts or keys; names from files go through
// printable().
#pragma once

#include <fmt/core.h>

#include <string_view>
#include <utility>

namespace millrace {

enum class LogLevel { debug, info, warning, error };

// Lines below this level are dropped; warning at start. Any thread.
void set_log_level(LogLevel level);
void log_line(LogLevel level, std::string_view text);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace millrace
