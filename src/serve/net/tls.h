// TLS for connections, from a certificate and its key in PEM files.
#pragma once

#include <memory>

#include "serve/net/tls_files.h"
#include "serve/net/transports.h"

namespace millrace {

class TlsContext {
 public:
  // TLS 1.2 and 1.3. Throws Error(usage) when a file cannot be read or the two do not belong together.
  explicit TlsContext(const TlsFiles& files);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // The transport may outlive this.
  std::unique_ptr<Transport> transport(Socket socket) const;

 private:
  struct Context;
  std::shared_ptr<Context> context_;
};

}  // namespace millrace
