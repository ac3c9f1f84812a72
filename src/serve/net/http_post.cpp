#include "serve/net/http_post.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace millrace {
namespace {

class Socket {
 public:
  explicit Socket(const addrinfo& address)
      : descriptor_(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, address.ai_protocol)) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  // A send timeout holds for connecting, too (socket(7)).
  bool connect(const addrinfo& address, std::chrono::milliseconds step_time) const {
    const timeval limit{.tv_sec = step_time.count() / 1000, .tv_usec = step_time.count() % 1000 * 1000};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return descriptor_ >= 0 && ::connect(descriptor_, address.ai_addr, address.ai_addrlen) == 0;
  }
  bool send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // Up to the end of the first line, or what there is.
  std::string receive_line() const {
    std::string out;
    char part[256];
    while (out.find('\n') == std::string::npos && out.size() < 4096) {
      const ssize_t n = ::recv(descriptor_, part, sizeof part, 0);
      if (n <= 0) break;
      out.append(part, static_cast<size_t>(n));
    }
    return out.substr(0, out.find('\n'));
  }

 private:
  const int descriptor_;
};

// "HTTP/1.1 200 OK" is 200; 0 where it is no such line.
int status_of(std::string_view line) {
  if (!line.starts_with("HTTP/1.") || line.size() < 12) return 0;
  int status = 0;
  std::from_chars(line.data() + 9, line.data() + 12, status);
  return status;
}

}  // namespace

HttpTarget HttpTarget::of_url(std::string_view url, std::string_view option) {
  constexpr std::string_view kScheme = "http://";
  const auto refuse = [&] {
    fail(ErrorKind::usage, "{} should be http://HOST[:PORT][/PATH], found {}", option, printable(url));
  };
  if (!url.starts_with(kScheme)) refuse();
  const std::string_view rest = url.substr(kScheme.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view host = rest.substr(0, slash);
  const size_t colon = host.rfind(':');
  const bool has_port = colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos;
  HttpTarget out{.host = {}, .port = has_port ? std::string(host.substr(colon + 1)) : "80", .path = {}};
  if (has_port) host = host.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  out.host = host;
  out.path = slash < rest.size() ? rest.substr(slash) : "/";
  const bool is_number =
      !out.port.empty() && std::ranges::all_of(out.port, [](char c) { return c >= '0' && c <= '9'; });
  const bool is_plain = std::ranges::all_of(url, [](char c) { return c > ' ' && c < 0x7f; });
  if (out.host.empty() || !is_number || !is_plain) refuse();
  return out;
}

HttpAnswer post_json(const HttpTarget& target, std::string_view body, std::chrono::milliseconds step_time) {
  const addrinfo hints{.ai_flags = 0,
                       .ai_family = AF_UNSPEC,
                       .ai_socktype = SOCK_STREAM,
                       .ai_protocol = 0,
                       .ai_addrlen = 0,
                       .ai_addr = nullptr,
                       .ai_canonname = nullptr,
                       .ai_next = nullptr};
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &found); error != 0)
    return {.fault = fmt::format("{} has no address: {}", target.host, ::gai_strerror(error))};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);
  std::string fault;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const Socket socket(*address);
    if (!socket.connect(*address, step_time)) {
      fault = fmt::format("cannot connect to {} port {}: {}", target.host, target.port, std::strerror(errno));
      continue;
    }
    const std::string head = fmt::format(
        "POST {} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/json\r\nContent-Length: "
        "{}\r\nConnection: close\r\n\r\n",
        target.path, target.host, target.port, body.size());
    const int status = socket.send(head) && socket.send(body) ? status_of(socket.receive_line()) : 0;
    if (status != 0) return {.status = status, .fault = {}};
    return {.fault = fmt::format("{} port {} does not answer", target.host, target.port)};
  }
  return {.fault = fault};
}

}  // namespace millrace
