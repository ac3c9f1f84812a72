// Why a request is not answered. Each dialect writes it in its own shape.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace millrace {

// Thrown while a request is read, and nowhere else; what runs reports its faults as values of this type.
class ApiError : public std::runtime_error {
 public:
  ApiError(int http_status, const std::string& sentence, std::string field = {}, std::string short_code = {})
      : std::runtime_error(sentence),
        status(http_status),
        param(std::move(field)),
        code(std::move(short_code)) {}

  int status;                  // of HTTP
  std::string param;           // the field that is wrong, where it is one
  std::string code;            // "context_length_exceeded", ...; may be empty
  double retry_after_s = 0.0;  // 0: nothing is known of it
};

template <class... Args>
[[noreturn]] void refuse_field(const std::string& param, fmt::format_string<Args...> format, Args&&... args) {
  throw ApiError(400, fmt::format(format, std::forward<Args>(args)...), param);
}

}  // namespace millrace
