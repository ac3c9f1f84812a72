// A token stream becomes a text stream: bytes in, whole characters out. Never half a character, never a stop
// string or a part that may still become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace {

// One per answer, used by one thread. Whatever way the bytes are cut into pieces, what push() and flush()
// return, joined, is the same.
class TextStream {
 public:
  // `stops`: strings that end the text and are not part of it. Empty ones are ignored.
  explicit TextStream(std::vector<std::string> stops = {});

  // Takes the next bytes and returns the text that is certain now: valid UTF-8, U+FFFD for broken bytes.
  // Empty after a stop string was found.
  std::string push(std::string_view bytes);

  // The end: what was held back, an unfinished character as U+FFFD.
  std::string flush();

  bool is_stopped() const { return is_stopped_; }
  // The stop string that was found; empty before.
  std::string_view stop() const { return stop_; }

 private:
  std::string release();

  std::vector<std::string> stops_;
  std::string unfinished_;  // at most 3 bytes: a character that has begun
  std::string held_;        // whole characters that may begin a stop string
  std::string stop_;
  bool is_stopped_ = false;
};

}  // namespace millrace
