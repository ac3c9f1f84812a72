// A JSON schema as it is read before it becomes a grammar: where we are in it, members with their types, what
// is refused and in which words, and what a $ref refers to.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "grammar/rules.h"

namespace millrace {

class SchemaReader {
 public:
  // A step down into the schema, while it lives.
  class Place {
   public:
    Place(SchemaReader& reader, std::string_view step);
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place();

   private:
    SchemaReader& reader_;
    size_t n_before_;
  };

  // `root` must outlive it; `what` names the schema in messages. No count may be above `max_count`.
  SchemaReader(const Json& root, std::string_view what, int64_t max_count)
      : root_(root), what_(what), max_count_(max_count) {}

  // Throws Error(usage) with the place.
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::usage, "{}, at {}: {}", what_, path_.empty() ? "its root" : printable(path_),
         fmt::format(format, std::forward<Args>(args)...));
  }

  const Json& root() const { return root_; }
  const Json::Array& need_array(const Json& value, std::string_view key) const;
  const std::string& need_string(const Json& value, std::string_view key) const;
  bool flag(const Json& schema, std::string_view key) const;
  // The least and the most of something; Rules::kUnbounded where there is no most.
  std::pair<int64_t, int64_t> counts(const Json& schema, std::string_view min_key,
                                     std::string_view max_key) const;
  // Refuses keywords that cannot be enforced.
  void check_keywords(const Json& schema) const;
  // The types that a value may have: what `type` says, or whose keywords there are.
  std::vector<std::string> types(const Json& schema) const;
  // What a $ref refers to.
  const Json& resolve(const Json& ref) const;

 private:
  int64_t count(const Json& schema, std::string_view key, int64_t otherwise) const;
  std::vector<std::string> narrowed(const Json& schema, std::vector<std::string> types) const;

  const Json& root_;
  std::string what_;
  int64_t max_count_;
  std::string path_;
  int depth_ = 0;
};

// A keyword that enforces something; the others only annotate.
bool is_enforced_keyword(std::string_view key);
bool says_nothing(const Json& schema);
Json without(const Json& schema, std::initializer_list<std::string_view> keys);

}  // namespace millrace
