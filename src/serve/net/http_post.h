// One POST to another server, over http, waiting for the answer: for threads that have time.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace millrace {

struct HttpTarget {
  std::string host;
  std::string port;
  std::string path;  // begins with /

  // Of "http://HOST[:PORT][/PATH]". Throws Error(usage) that names `option` for what is no such URL, https
  // included.
  static HttpTarget of_url(std::string_view url, std::string_view option);
};

struct HttpAnswer {
  int status = 0;
  std::string fault;  // one sentence, where there was no answer
};

// Each step (finding the address apart) has `step_time`.
HttpAnswer post_json(const HttpTarget& target, std::string_view body, std::chrono::milliseconds step_time);

}  // namespace millrace
