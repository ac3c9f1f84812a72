// How foreign text stays text through a program that may move, trim and join it: the first character of
// whatever could become a control token is replaced by a stand-in, a noncharacter of Unicode (U+FDD0 to
// U+FDEF, which no text is meant to hold). In the rendered text every stand-in is put back, and the tokenizer
// is told that no control token may cover it. To the template a stand-in is one character, as the one it
// stands for.
#include "text/chat_encoding.h"

#include <algorithm>

#include "base/utf8.h"
#include "text/unicode.h"

namespace millrace {
namespace {

constexpr uint32_t kFirstStandIn = 0xfdd0;
constexpr uint32_t kEndStandIn = 0xfdf0;

class Shield {
 public:
  Shield(const Tokenizer& tokenizer, const Json& variables) : tokenizer_(tokenizer) {
    const std::string all = variables.dump();
    for (uint32_t c = kFirstStandIn; c < kEndStandIn; ++c) {
      std::string text;
      append_utf8(text, c);
      if (all.find(text) == std::string::npos) unused_.push_back(c);
    }
  }

  Json guard(const Json& value) {
    if (value.is_string()) return guard_text(value.as_string());
    if (value.is_array()) {
      Json::Array out;
      for (const Json& each : value.as_array()) out.push_back(guard(each));
      return out;
    }
    if (!value.is_object()) return value;
    Json::Object out;
    // A role is a word that templates compare, from a closed set.
    for (const auto& [key, each] : value.as_object())
      out.emplace_back(guard_text(key), key == "role" ? each : guard(each));
    return out;
  }

  Json guard_messages(const Json& messages) {
    if (!messages.is_array()) return messages;
    Json::Array out;
    for (const Json& message : messages.as_array()) {
      const Json* role = message.find("role");
      const bool is_own = role != nullptr && role->is_string() && role->as_string() == "assistant";
      out.push_back(is_own ? message : guard(message));
      if (const Json* own = message.find("own_text")) guard_around(*own, message, out.back());
    }
    return out;
  }

  // `text` with the characters that were replaced, and where they stand in it.
  std::string restore(std::string_view text, std::vector<size_t>& places) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = next_utf8(text, at);
      const auto found = std::ranges::find(replaced_, c.code_point, &Replaced::stand_in);
      if (found != replaced_.end()) {
        places.push_back(out.size());
        append_utf8(out, found->original);
      } else {
        out += text.substr(at, static_cast<size_t>(c.n_bytes));
      }
      at += static_cast<size_t>(c.n_bytes);
    }
    return out;
  }

 private:
  struct Replaced {
    uint32_t original, stand_in;
  };

  // The part of the content that the program wrote stays as it is.
  void guard_around(const Json& part, const Json& message, Json& guarded) {
    const std::string& content = message.at("content").as_string();
    const auto at = static_cast<size_t>(part.at("at").as_int()),
               n = static_cast<size_t>(part.at("n").as_int());
    guarded["content"] =
        guard_text(content.substr(0, at)) + content.substr(at, n) + guard_text(content.substr(at + n));
  }

  std::string guard_text(const std::string& text) {
    std::string out;
    size_t done = 0;
    for (const size_t begin : tokenizer_.control_begins(text)) {
      const Utf8Char c = next_utf8(text, begin);
      if (!c.is_valid || begin < done) continue;  // a token's text is valid: it begins with no broken byte
      out += std::string_view(text).substr(done, begin - done);
      append_utf8(out, stand_in_of(c.code_point));
      done = begin + static_cast<size_t>(c.n_bytes);
    }
    return out += std::string_view(text).substr(done);
  }

  uint32_t stand_in_of(uint32_t original) {
    const auto known = std::ranges::find(replaced_, original, &Replaced::original);
    if (known != replaced_.end()) return known->stand_in;
    if (unused_.empty()) {
      fail(ErrorKind::runtime,
           "the messages hold the beginnings of too many different control tokens to keep them apart");
    }
    replaced_.push_back({original, unused_.back()});
    unused_.pop_back();
    return replaced_.back().stand_in;
  }

  const Tokenizer& tokenizer_;
  std::vector<uint32_t> unused_;
  std::vector<Replaced> replaced_;
};

}  // namespace

std::vector<int32_t> encode_chat(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                 const Json& variables, std::string_view now) {
  Shield shield(tokenizer, variables);
  Json guarded = variables;
  for (auto& [name, value] : guarded.as_object()) {
    if (name == "messages") value = shield.guard_messages(value);
    if (name == "tools" || name == "documents") value = shield.guard(value);
  }
  std::vector<size_t> literal;
  const std::string text = shield.restore(repair_utf8(chat_template.render(guarded, now)), literal);
  return tokenizer.encode(text, {.add_special = false, .parse_special = true, .literal = literal});
}

}  // namespace millrace
