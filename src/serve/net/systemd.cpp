#include "serve/net/systemd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace millrace {
namespace {

constexpr int kFirstInherited = 3;

std::optional<int64_t> number_of(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  int64_t out = 0;
  const char* end = text + std::strlen(text);
  if (const auto read = std::from_chars(text, end, out); read.ec != std::errc() || read.ptr != end)
    fail(ErrorKind::usage, "the environment has {}={}, expected a number", name, printable(text, 40));
  return out;
}

// What is said to one process is not for its children.
bool is_for_us(const char* name) {
  const auto pid = number_of(name);
  return !pid || *pid == ::getpid();
}

}  // namespace

ServiceManager::ServiceManager() {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr) return;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const size_t n = std::strlen(path);
  if ((path[0] != '/' && path[0] != '@') || n >= sizeof address.sun_path)
    fail(ErrorKind::usage, "the environment has NOTIFY_SOCKET={}, expected a path or @name", printable(path));
  std::memcpy(address.sun_path, path, n);
  if (path[0] == '@') address.sun_path[0] = '\0';  // of the abstract namespace
  socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + n);
  if (socket_ < 0 || ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), length) != 0)
    fail(ErrorKind::usage, "cannot reach the service manager at {}: {}", printable(path),
         std::strerror(errno));
  const auto usec = number_of("WATCHDOG_USEC");
  if (usec && *usec > 1 && is_for_us("WATCHDOG_PID")) alive_every_ = std::chrono::microseconds(*usec / 2);
}

ServiceManager::~ServiceManager() {
  if (socket_ >= 0) ::close(socket_);
}

void ServiceManager::reloading() const {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  notify(fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                     std::chrono::duration_cast<std::chrono::microseconds>(now).count()));
}

// A manager that does not listen any more is no reason to stop.
void ServiceManager::notify(std::string_view state) const {
  if (socket_ >= 0) [[maybe_unused]]
    const ssize_t n = ::send(socket_, state.data(), state.size(), MSG_NOSIGNAL);
}

std::optional<InheritedSocket> inherited_socket() {
  const auto n = number_of("LISTEN_FDS");
  if (!n || *n == 0 || !number_of("LISTEN_PID") || !is_for_us("LISTEN_PID")) return std::nullopt;
  if (*n != 1) fail(ErrorKind::usage, "the service manager hands over {} sockets, expected one", *n);
  int is_listening = 0;
  socklen_t length = sizeof is_listening;
  sockaddr_storage address{};
  socklen_t n_address = sizeof address;
  const bool is_socket =
      ::getsockopt(kFirstInherited, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &length) == 0 &&
      ::getsockname(kFirstInherited, reinterpret_cast<sockaddr*>(&address), &n_address) == 0;
  if (!is_socket || is_listening == 0)
    fail(ErrorKind::usage, "what the service manager hands over is no stream socket that listens");
  ::fcntl(kFirstInherited, F_SETFD, FD_CLOEXEC);
  InheritedSocket out{.descriptor = kFirstInherited, .host = {}, .path = {}};
  if (address.ss_family == AF_UNIX) {
    const auto& local = reinterpret_cast<const sockaddr_un&>(address);
    const size_t n_path = n_address - offsetof(sockaddr_un, sun_path);
    const bool is_abstract = n_path > 0 && local.sun_path[0] == '\0';
    out.path = is_abstract ? "@" + std::string(local.sun_path + 1, n_path - 1) : local.sun_path;
    return out;
  }
  char host[NI_MAXHOST];
  if (::getnameinfo(reinterpret_cast<const sockaddr*>(&address), n_address, host, sizeof host, nullptr, 0,
                    NI_NUMERICHOST) != 0)
    fail(ErrorKind::usage, "the service manager hands over a socket of a kind that is not known");
  out.host = host;
  return out;
}

}  // namespace millrace
