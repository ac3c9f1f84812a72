#include "text/jinja/py_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/py_string.h"

namespace millrace::jinja {
namespace {

// repr() of values, added to a text.
class Printer {
 public:
  Printer(Heap& heap, std::string& out) : heap_(heap), out_(out) {}

  void repr(const Value& value, int depth = 0) {
    heap_.step();
    check_nesting(depth);
    heap_.expect_room(out_.size());
    switch (value.kind()) {
      case Kind::string:
        if (is_markup(value)) out_ += "Markup(";
        quote(text_of(value));
        if (is_markup(value)) out_ += ')';
        return;
      case Kind::undefined:
        out_ += "Undefined";
        return;
      case Kind::list:
        return sequence("[", value.as<Sequence>().items, "]", depth);
      case Kind::tuple:
        return sequence("(", value.as<Sequence>().items, value.as<Sequence>().items.size() == 1 ? ",)" : ")",
                        depth);
      case Kind::dict:
        return dict(value.as<Dict>(), depth);
      case Kind::dict_view:
        return view(value.as<DictView>(), depth);
      case Kind::nspace:
        return name_space(value.as<Namespace>(), depth);
      default:
        scalar(value);
    }
  }

 private:
  void scalar(const Value& value) {
    switch (value.kind()) {
      case Kind::none:
        out_ += "None";
        return;
      case Kind::boolean:
        out_ += value.boolean() ? "True" : "False";
        return;
      case Kind::integer:
        out_ += std::to_string(value.integer());
        return;
      case Kind::real:
        out_ += repr_of_real(value.real());
        return;
      case Kind::range:
        return range(value.as<Range>());
      case Kind::macro:
        out_ += "<Macro '" + value.as<Macro>().code->name + "'>";
        return;
      default:
        out_ += fmt::format("<{} object>", type_name(value));
    }
  }

  void range(const Range& range) {
    out_ += fmt::format("range({}, {}", range.start, range.stop);
    out_ += range.step == 1 ? ")" : fmt::format(", {})", range.step);
  }

  void sequence(std::string_view open, const Values& items, std::string_view close, int depth) {
    out_ += open;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      repr(items[i], depth + 1);
    }
    out_ += close;
  }

  void pairs(const std::vector<std::pair<Value, Value>>& entries, int depth) {
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += ", ";
      repr(entries[i].first, depth + 1);
      out_ += ": ";
      repr(entries[i].second, depth + 1);
    }
    out_ += '}';
  }

  void dict(const Dict& dict, int depth) { pairs(dict.entries(), depth); }

  void name_space(const Namespace& nspace, int depth) {
    out_ += "<Namespace ";
    pairs(nspace.attributes, depth);
    out_ += '>';
  }

  void view(const DictView& view, int depth) {
    constexpr std::string_view kNames[] = {"dict_keys([", "dict_values([", "dict_items(["};
    out_ += kNames[static_cast<size_t>(view.part)];
    bool is_first = true;
    for (const auto& [key, value] : view.dict.as<Dict>().entries()) {
      if (!std::exchange(is_first, false)) out_ += ", ";
      if (view.part == DictView::Part::items) out_ += '(';
      if (view.part != DictView::Part::values) repr(key, depth + 1);
      if (view.part == DictView::Part::items) out_ += ", ";
      if (view.part != DictView::Part::keys) repr(value, depth + 1);
      if (view.part == DictView::Part::items) out_ += ')';
    }
    out_ += "])";
  }

  void quote(std::string_view text) {
    heap_.step_bytes(text.size());
    const bool is_double = text.find('\'') != text.npos && text.find('"') == text.npos;
    const char mark = is_double ? '"' : '\'';
    out_ += mark;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = next_utf8(text, at);
      escape(c.code_point, text.substr(at, static_cast<size_t>(c.n_bytes)), mark);
      at += static_cast<size_t>(c.n_bytes);
    }
    out_ += mark;
  }

  void escape(uint32_t c, std::string_view bytes, char mark) {
    if (c == static_cast<unsigned char>(mark) || c == '\\') {
      out_ += '\\';
      out_ += bytes;
    } else if (c == '\n' || c == '\r' || c == '\t') {
      out_ += c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (is_printable(c)) {
      out_ += bytes;
    } else {
      out_ += c < 0x100     ? fmt::format("\\x{:02x}", c)
              : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                            : fmt::format("\\U{:08x}", c);
    }
  }

  Heap& heap_;
  std::string& out_;
};

class JsonPrinter {
 public:
  JsonPrinter(Heap& heap, const JsonStyle& style, std::string& out) : heap_(heap), style_(style), out_(out) {}

  void print(const Value& value, int depth = 0) {
    heap_.step();
    check_nesting(depth);
    heap_.expect_room(out_.size());
    switch (value.kind()) {
      case Kind::string:
        return quote(text_of(value));
      case Kind::list:
      case Kind::tuple:
        return sequence(value.as<Sequence>().items, depth);
      case Kind::dict:
        return dict(value.as<Dict>(), depth);
      case Kind::none:
      case Kind::boolean:
      case Kind::integer:
      case Kind::real:
        out_ += scalar(value);
        return;
      default:
        raise("Object of type {} is not JSON serializable", type_name(value));
    }
  }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (value.is(Kind::boolean)) return value.boolean() ? "true" : "false";
    if (value.is(Kind::integer)) return std::to_string(value.integer());
    if (std::isnan(value.real())) return "NaN";
    if (std::isinf(value.real())) return value.real() > 0 ? "Infinity" : "-Infinity";
    return repr_of_real(value.real());
  }

  void new_line(int depth) {
    if (!style_.is_indented) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += style_.indent;
  }

  void sequence(const Values& items, int depth) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(depth + 1);
      print(items[i], depth + 1);
    }
    new_line(depth);
    out_ += ']';
  }

  void dict(const Dict& dict, int depth) {
    if (dict.entries().empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const Dict::Entry*> entries;
    for (const Dict::Entry& entry : dict.entries()) entries.push_back(&entry);
    if (style_.is_sorted) {
      std::ranges::stable_sort(entries, [&](const Dict::Entry* a, const Dict::Entry* b) {
        return is_less(heap_, a->first, b->first);
      });
    }
    out_ += '{';
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      new_line(depth + 1);
      key(entries[i]->first);
      out_ += style_.key_separator;
      print(entries[i]->second, depth + 1);
    }
    new_line(depth);
    out_ += '}';
  }

  void key(const Value& key) {
    if (key.is_string()) return quote(text_of(key));
    if (!key.is_none() && !key.is_number()) {
      raise("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
    out_ += '"' + scalar(key) + '"';
  }

  void quote(std::string_view text) {
    heap_.step_bytes(text.size());
    out_ += '"';
    size_t begin = 0;  // of what is not written yet
    for (size_t at = 0; at < text.size();) {
      const auto byte = static_cast<unsigned char>(text[at]);
      const bool is_plain = byte >= 0x20 && byte != '"' && byte != '\\' && (byte < 0x80 || !style_.is_ascii);
      if (is_plain) {
        ++at;
        continue;
      }
      out_ += text.substr(begin, at - begin);
      const Utf8Char c = next_utf8(text, at);
      escape(c.code_point);
      begin = at += static_cast<size_t>(c.n_bytes);
    }
    out_ += text.substr(begin);
    out_ += '"';
  }

  void escape(uint32_t c) {
    constexpr std::string_view kFrom = "\"\\\n\r\t\f\b";
    constexpr std::string_view kTo = "\"\\nrtfb";
    const size_t known = c < 0x80 ? kFrom.find(static_cast<char>(c)) : kFrom.npos;
    if (known != kFrom.npos) {
      out_ += '\\';
      out_ += kTo[known];
    } else if (c < 0x10000) {
      out_ += fmt::format("\\u{:04x}", c);
    } else {
      out_ +=
          fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
    }
  }

  Heap& heap_;
  const JsonStyle& style_;
  std::string& out_;
};

}  // namespace

// The shortest digits that read back as the same number, with Python's choice of notation.
std::string repr_of_real(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const char* end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  int exponent = 0;
  std::from_chars(buffer + e + (buffer[e + 1] == '+' ? 2 : 1), end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed).ptr;
  std::string fixed(buffer, static_cast<size_t>(end - buffer));
  return fixed.find('.') == fixed.npos ? fixed + ".0" : fixed;
}

void append_str(Heap& heap, std::string& out, const Value& value) {
  if (value.is_undefined()) return;
  if (value.is_string()) {
    heap.step_bytes(text_of(value).size());
    heap.expect_room(out.size() + text_of(value).size());
    out += text_of(value);
  } else {
    Printer(heap, out).repr(value);
  }
}

std::string to_str(Heap& heap, const Value& value) {
  std::string out;
  append_str(heap, out, value);
  return out;
}

std::string to_repr(Heap& heap, const Value& value) {
  std::string out;
  Printer(heap, out).repr(value);
  return out;
}

std::string to_json(Heap& heap, const Value& value, const JsonStyle& style) {
  std::string out;
  JsonPrinter(heap, style, out).print(value);
  return out;
}

}  // namespace millrace::jinja
