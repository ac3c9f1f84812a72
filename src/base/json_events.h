// JSON seen piece by piece, for texts too large or too hostile to become a tree first.
#pragma once

#include <string_view>

#include "base/json.h"

namespace millrace {

// What a text holds, in its order. Equal keys are passed on as they come. A member that throws ends the
// reading.
class JsonEvents {
 public:
  virtual ~JsonEvents() = default;
  virtual void begin_object() = 0;
  virtual void end_object() = 0;
  virtual void begin_array() = 0;
  virtual void end_array() = 0;
  virtual void key(std::string_view key) = 0;  // of the value that comes next
  virtual void value(Json scalar) = 0;         // null, a boolean, a number or a string
};

// Throws Error of `kind` where `text`, called `what` in the sentence, is no JSON.
void read_json_events(std::string_view text, std::string_view what, JsonEvents& events, ErrorKind kind,
                      Json::Limits limits);

}  // namespace millrace
