#include "text/jinja/strftime.h"

#include <sys/time.h>

#include <cstdio>
#include <ctime>

#include "base/error.h"
#include "text/jinja/error.h"

namespace millrace::jinja {
namespace {

struct Moment {
  std::tm fields{};
  int64_t microseconds = 0;
};

Moment local_time() {
  timeval now{};
  gettimeofday(&now, nullptr);
  Moment moment{.microseconds = now.tv_usec};
  localtime_r(&now.tv_sec, &moment.fields);
  return moment;
}

Moment parse_time(std::string_view text) {
  Moment moment;
  std::tm& t = moment.fields;
  const std::string copy(text);
  char fraction[7] = "000000";
  const int n = std::sscanf(copy.c_str(), "%4d-%2d-%2d%*[T ]%2d:%2d:%2d.%6[0-9]", &t.tm_year, &t.tm_mon,
                            &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec, fraction);
  const bool is_time = n >= 3 && t.tm_year >= 1 && t.tm_mon >= 1 && t.tm_mon <= 12 && t.tm_mday >= 1 &&
                       t.tm_mday <= 31 && t.tm_hour >= 0 && t.tm_hour < 24 && t.tm_min >= 0 &&
                       t.tm_min < 60 && t.tm_sec >= 0 && t.tm_sec < 60;
  if (!is_time) raise("expected a time such as 2026-01-31T12:00:00, found '{}'", printable(text, 40));
  for (int64_t i = 0, digit = 100000; i < 6 && fraction[i] != '\0'; ++i, digit /= 10) {
    moment.microseconds += (fraction[i] - '0') * digit;
  }
  t.tm_year -= 1900;
  t.tm_mon -= 1;
  t.tm_isdst = -1;
  std::tm normal = t;
  timegm(&normal);  // finds the day of the week and of the year
  t.tm_wday = normal.tm_wday;
  t.tm_yday = normal.tm_yday;
  return moment;
}

}  // namespace

std::string format_time(std::string_view now, std::string_view format) {
  const Moment moment = now.empty() ? local_time() : parse_time(now);
  std::string out;
  for (size_t at = 0; at < format.size();) {
    if (format[at] != '%' || at + 1 == format.size()) {
      out += format[at++];
      continue;
    }
    size_t end = at + 1;
    while (end < format.size() && std::string_view("-_0^#EO").find(format[end]) != std::string_view::npos)
      ++end;
    if (end == format.size()) return out + std::string(format.substr(at));
    const std::string directive(format.substr(at, end + 1 - at));
    at = end + 1;
    if (directive == "%f") {
      out += fmt::format("{:06}", moment.microseconds);
    } else if (directive != "%z" && directive != "%Z") {  // a time without a zone prints none
      char buffer[128];
      out +=
          std::string_view(buffer, std::strftime(buffer, sizeof(buffer), directive.c_str(), &moment.fields));
    }
    if (out.size() > 1 << 16) raise("a time of more than 65536 characters");
  }
  return out;
}

}  // namespace millrace::jinja
