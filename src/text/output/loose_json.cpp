#include "text/output/loose_json.h"

#include <string>

namespace millrace {
namespace {

constexpr std::string_view kBlanks = " \n\t\r";

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? std::string_view()
                                         : text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

class Reader {
 public:
  Reader(std::string_view text, std::string_view quote) : text_(text), quote_(quote) {}

  std::optional<Json> whole() {
    auto out = value(0);
    return is_at_end() ? std::move(out) : std::nullopt;
  }
  // Up to a parenthesis.
  std::optional<Json> keyword_arguments() {
    bare_ends_ = ",]})";
    auto out = members(0, {.end = ")", .behind_key = "="});
    return is_at_end() ? std::move(out) : std::nullopt;
  }

 private:
  bool is_at_end() {
    skip_blanks();
    return text_.empty();
  }

  std::optional<Json> value(int depth) {
    constexpr int kMaxDepth = 100;
    skip_blanks();
    if (depth > kMaxDepth || text_.empty()) return std::nullopt;
    if (is_at_text()) return text();
    if (take("{")) return members(depth, {.end = "}", .behind_key = ":"});
    if (take("[")) return list(depth);
    return bare(up_to_any(bare_ends_));
  }

  struct Signs {
    std::string_view end, behind_key;
  };
  std::optional<Json> members(int depth, const Signs& signs) {
    Json out = Json::Object();
    for (skip_blanks(); !take(signs.end); skip_blanks()) {
      if (!out.as_object().empty() && !take(",")) return std::nullopt;
      skip_blanks();
      if (take(signs.end)) break;
      std::optional<Json> key =
          is_at_text() ? text() : Json(trimmed(up_to_any(std::string(signs.behind_key) + ",]})")));
      skip_blanks();
      if (!key || !key->is_string() || !take(signs.behind_key)) return std::nullopt;
      auto member = value(depth + 1);
      if (!member) return std::nullopt;
      out[key->as_string()] = *std::move(member);
    }
    return out;
  }

  std::optional<Json> list(int depth) {
    Json::Array out;
    for (skip_blanks(); !take("]"); skip_blanks()) {
      if (!out.empty() && !take(",")) return std::nullopt;
      skip_blanks();
      if (take("]")) break;
      auto element = value(depth + 1);
      if (!element) return std::nullopt;
      out.push_back(*std::move(element));
    }
    return Json(std::move(out));
  }

  bool is_at_text() const {
    return (!quote_.empty() && text_.starts_with(quote_)) || text_.starts_with('"') ||
           text_.starts_with('\'');
  }
  std::optional<Json> text() {
    if (!quote_.empty() && take(quote_)) {
      const size_t end = text_.find(quote_);
      if (end == std::string_view::npos) return std::nullopt;
      Json out(text_.substr(0, end));
      text_.remove_prefix(end + quote_.size());
      return out;
    }
    size_t end = 1;
    while (end < text_.size() && text_[end] != text_[0]) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) return std::nullopt;
    const std::string_view quoted = text_.substr(0, end + 1);
    text_.remove_prefix(end + 1);
    return quoted[0] == '"' ? parsed(quoted) : parsed(with_double_quotes(quoted));
  }
  static std::string with_double_quotes(std::string_view quoted) {
    std::string out = "\"";
    for (size_t i = 1; i + 1 < quoted.size(); ++i) {
      if (quoted[i] == '"') out += '\\';
      if (quoted[i] == '\\' && quoted[i + 1] == '\'') continue;
      out += quoted[i];
      if (quoted[i] == '\\') out += quoted[++i];
    }
    return out + '"';
  }

  static std::optional<Json> bare(std::string_view word) {
    word = trimmed(word);
    if (word == "True") return Json(true);
    if (word == "False") return Json(false);
    if (word == "None") return Json();
    if (word.empty()) return std::nullopt;
    const auto value = parsed(word);
    return value ? value : Json(word);
  }
  static std::optional<Json> parsed(std::string_view text) {
    try {
      return Json::parse(text, "a value");
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  std::string_view up_to_any(std::string_view ends) {
    const std::string_view before = text_.substr(0, text_.find_first_of(ends));
    text_.remove_prefix(before.size());
    return before;
  }
  bool take(std::string_view token) {
    if (!text_.starts_with(token)) return false;
    text_.remove_prefix(token.size());
    return true;
  }
  void skip_blanks() { text_.remove_prefix(std::min(text_.find_first_not_of(kBlanks), text_.size())); }

  std::string_view text_, quote_;
  std::string_view bare_ends_ = ",]}";
};

}  // namespace

std::optional<Json> read_loose_json(std::string_view text, std::string_view quote) {
  return Reader(text, quote).whole();
}

std::optional<Json> read_keyword_arguments(std::string_view text) {
  return Reader(std::string(text) + ")", {}).keyword_arguments();
}

}  // namespace millrace
