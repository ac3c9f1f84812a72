// The members of a JSON object that a client sent, read with type and range. What was not read when all is
// done is refused by its name: nothing is ignored. What is asked here is also what an API's description says
// (serve/field_log.h): so every member is asked for whether it is there or not.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "serve/api_error.h"

namespace millrace {

class FieldLog;

// A member that is null counts as absent. Everything here throws ApiError(400) with the member's full name.
class Fields {
 public:
  // `object` must outlive it. `path` is its own name, empty for the body.
  explicit Fields(const Json& object, std::string path = {});

  std::optional<bool> boolean(std::string_view name);
  std::optional<int64_t> integer(std::string_view name, int64_t min, int64_t max);
  std::optional<double> number(std::string_view name, double min, double max);
  std::optional<std::string> text(std::string_view name);
  // One of `values`.
  std::optional<std::string> choice(std::string_view name, std::initializer_list<std::string_view> values);
  // One string, or a list of at most `max_count`.
  std::vector<std::string> texts(std::string_view name, size_t max_count);
  std::optional<std::vector<int32_t>> ids(std::string_view name, size_t max_count);
  const Json* array(std::string_view name, size_t max_count);
  const Json* object(std::string_view name);
  // Of any type.
  const Json* any(std::string_view name);
  template <class T>
  T need(std::optional<T> value, std::string_view name) {
    note_need(name);
    if (!value) refuse_missing(name);
    return std::move(*value);
  }
  const Json& need(const Json* value, std::string_view name) {
    note_need(name);
    if (value == nullptr) refuse_missing(name);
    return *value;
  }
  [[noreturn]] void refuse_missing(std::string_view name) const;

  // Members that change no answer of this server: who asks, how the call is billed.
  void allow(std::initializer_list<std::string_view> names);
  // Refuses the member where it is there, unless it holds the one value that asks for nothing.
  void refuse(std::string_view name, std::string_view why);
  void refuse_unless(std::string_view name, const Json& harmless, std::string_view why);
  // Refuses whatever was not read.
  void finish() const;

  std::string full_name(std::string_view name) const;

 private:
  const Json* take(std::string_view name);
  const Json* take_array(std::string_view name, size_t max_count);
  void note(std::string_view name, const Json& schema) const;
  void note_need(std::string_view name) const;
  [[noreturn]] void refuse_unserved(std::string_view name, std::string_view why) const;
  [[noreturn]] void refuse_type(std::string_view name, std::string_view expected, const Json& found) const;

  const Json& object_;
  std::string path_;
  std::vector<std::string_view> known_;
  FieldLog* const log_;  // nullptr: nobody wants to know
};

}  // namespace millrace
