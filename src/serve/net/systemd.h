// What a service manager and its service say to each other: sd_notify(3) and sd_listen_fds(3), spoken without
// their library. Nothing happens where no manager asked for it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace millrace {

// Tells the manager what the service is doing ($NOTIFY_SOCKET), and that it lives ($WATCHDOG_USEC).
class ServiceManager {
 public:
  // Throws Error(usage) where the environment makes no sense.
  ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;
  ~ServiceManager();

  void ready() const { notify("READY=1"); }
  void stopping() const { notify("STOPPING=1"); }
  void reloading() const;  // ready() says that it is done
  void alive() const { notify("WATCHDOG=1"); }
  // alive() should be said so often; nothing where nobody listens for it.
  std::optional<std::chrono::microseconds> alive_every() const { return alive_every_; }

 private:
  void notify(std::string_view state) const;

  int socket_ = -1;
  std::optional<std::chrono::microseconds> alive_every_;
};

// A socket that the manager listens on for us, so that nobody is refused while the service begins or ends.
struct InheritedSocket {
  int descriptor = -1;
  std::string host;  // the address, as a number
  std::string path;  // of a unix socket
};
// Throws Error(usage) where there are several, or one that does not listen.
std::optional<InheritedSocket> inherited_socket();

}  // namespace millrace
