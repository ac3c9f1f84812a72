// Where a certificate and its key lie.
#pragma once

#include <filesystem>

namespace millrace {

struct TlsFiles {
  std::filesystem::path certificate, key;  // PEM; the certificate may be followed by its chain
};

}  // namespace millrace
