// The time of day as a template sees it: strftime_now().
#pragma once

#include <string>
#include <string_view>

namespace millrace::jinja {

// `now` as Python's datetime.strftime writes it. ISO 8601 without a zone; empty: the local time of the clock.
// Throws RenderError for a time that is none.
std::string format_time(std::string_view now, std::string_view format);

}  // namespace millrace::jinja
