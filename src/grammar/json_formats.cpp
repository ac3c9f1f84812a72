#include "grammar/json_formats.h"

#include <array>
#include <string>
#include <utility>

namespace millrace {
namespace {

struct Format {
  std::string_view name;
  std::string pattern;
};

// RFC 3339; the 29th of February in leap years alone, and no year 0, which many libraries refuse.
std::string date() {
  const std::string year = "(?:000[1-9]|00[1-9]\\d|0[1-9]\\d\\d|[1-9]\\d{3})";
  const std::string leap = "(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
  return "(?:" + year +
         "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|"
         "1\\d|"
         "2[0-8]))|" +
         leap + "-02-29)";
}

const std::string kTime =
    "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)";
const std::string kLabel = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
const std::string kByte = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
const std::string kIpv4 = kByte + "(?:\\." + kByte + "){3}";

std::string hostname() { return kLabel + "(?:\\." + kLabel + "){0,3}"; }

// RFC 4291: at most one run of groups is left out.
std::string ipv6() {
  const std::string g = "[0-9a-fA-F]{1,4}";
  std::string out = "(?:" + g + ":){7}" + g;
  for (int left = 0; left <= 6; ++left) {
    const std::string before = left == 0 ? "" : g + "(?::" + g + "){" + std::to_string(left - 1) + "}";
    const int most = 6 - left;
    const std::string behind =
        most == 0 ? "(?:" + g + ")?" : "(?:" + g + "(?::" + g + "){0," + std::to_string(most) + "})?";
    out += "|" + before + "::" + behind;
  }
  return "(?:" + out + "|" + g + "(?::" + g + "){6}::)";
}

// RFC 3339, appendix A.
constexpr std::string_view kDuration =
    "P(?:\\d{1,9}W|\\d{1,9}Y(?:\\d{1,9}M(?:\\d{1,9}D)?)?(?:TX)?|\\d{1,9}M(?:\\d{1,9}D)?(?:TX)?|\\d{1,9}D(?:"
    "TX)?|TX)";

std::string duration() {
  const std::string time = "T(?:\\d{1,9}H(?:\\d{1,9}M(?:\\d{1,9}S)?)?|\\d{1,9}M(?:\\d{1,9}S)?|\\d{1,9}S)";
  std::string out(kDuration);
  for (size_t at; (at = out.find("TX")) != std::string::npos;) out.replace(at, 2, time);
  return out;
}

// RFC 3986, without user names and addresses in brackets.
std::string uri() {
  const std::string sign = "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";
  return "[A-Za-z][A-Za-z0-9+.-]{0,20}://" + hostname() + "(?::[1-9]\\d{0,3})?(?:/" + sign +
         "*)*(?:\\?(?:" + sign + "|[/?])*)?(?:#(?:" + sign + "|[/?])*)?";
}

}  // namespace

std::string_view pattern_of_format(std::string_view format) {
  static const std::array<Format, 10> formats{{
      {"date", date()},
      {"time", kTime},
      {"date-time", date() + "T" + kTime},
      {"duration", duration()},
      {"email",
       "[A-Za-z0-9_+-]{1,30}(?:\\.[A-Za-z0-9_+-]{1,30}){0,1}@" + kLabel + "(?:\\." + kLabel + "){1,2}"},
      {"hostname", hostname()},
      {"ipv4", kIpv4},
      {"ipv6", ipv6()},
      {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
      {"uri", uri()},
  }};
  for (const Format& each : formats)
    if (each.name == format) return each.pattern;
  return {};
}

}  // namespace millrace
