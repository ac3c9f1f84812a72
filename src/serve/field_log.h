// What the code that reads a request asks of its Fields, written down: so the description of an API comes
// from the reading itself and cannot say anything else.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace millrace {

class FieldLog {
 public:
  // Ordered: of what several readings say the greatest counts.
  enum class Use { ignored, refused, honoured };
  struct Field {
    std::string name;           // "messages[].role": [] stands for every entry
    std::vector<Json> schemas;  // JSON Schema; each alike is there once
    Use use = Use::ignored;
    std::string why;  // it is refused
    bool is_needed = false;
  };

  // While it lives, what Fields of this thread are asked goes to the log. Thread-local and no argument, since
  // whoever reads a part of a body is given its JSON alone.
  class Recording {
   public:
    explicit Recording(FieldLog& log);
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording();
  };
  // nullptr where nothing is recorded.
  static FieldLog* current();

  // `path` and `name` are full names, with numbers between brackets.
  void add(std::string_view name, Use use, Json schema = Json::Object(), std::string_view why = {});
  void need(std::string_view name);
  void begin_object(std::string_view path);
  void end_object(std::string_view path);  // nothing else may stand in it

  // In the order in which they were read first.
  std::vector<Field> fields() const;
  bool is_whole(const std::string& path) const { return whole_.contains(path); }
  // All of it as one schema.
  Json schema() const;

 private:
  size_t field_at(std::string_view name);

  std::vector<Field> fields_;
  std::map<std::string, int64_t> n_needed_;   // by field
  std::map<std::string, int64_t> n_objects_;  // read, by path
  std::set<std::string> whole_;
};

}  // namespace millrace
