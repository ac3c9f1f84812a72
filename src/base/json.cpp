#include "base/json.h"

#include <rapidjson/encodedstream.h>
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <unordered_map>

#include "base/json_events.h"

namespace millrace {
namespace {

constexpr const char* kTypeNames[] = {"null",     "a boolean", "an integer", "a number",
                                      "a string", "an array",  "an object"};

// Objects this large find equal keys through a table; below, by looking at each.
constexpr size_t kIndexFrom = 32;

// The value of the text of a JSON number. RapidJSON's own conversion reads 184467440737095516155 wrongly (its
// significand overflows), so it only checks the grammar.
std::optional<Json> number_of(const char* text, size_t size) {
  const char* end = text + size;
  int64_t integer = 0;
  const auto [integer_end, status] = std::from_chars(text, end, integer);
  if (status == std::errc() && integer_end == end) return Json(integer);
  double number = 0;
  if (std::from_chars(text, end, number).ec != std::errc()) number = std::strtod(text, nullptr);
  if (std::isinf(number)) return std::nullopt;
  return Json(number);
}

// RapidJSON's events as ours. The reader is iterative, so depth costs no stack.
class Forwarder : public rapidjson::BaseReaderHandler<rapidjson::UTF8<>, Forwarder> {
 public:
  Forwarder(JsonEvents& events, std::string_view what, ErrorKind kind, Json::Limits limits)
      : events_(events), what_(what), kind_(kind), limits_(limits) {}

  bool Null() { return value(Json()); }
  bool Bool(bool held) { return value(Json(held)); }
  bool String(const char* text, unsigned size, bool) { return value(Json(std::string(text, size))); }
  bool RawNumber(const char* text, unsigned size, bool) {
    std::optional<Json> number = number_of(text, size);
    if (!number) fail(kind_, "{} holds {}, a number too large", printable(what_), printable({text, size}));
    return value(*std::move(number));
  }
  bool Key(const char* text, unsigned size, bool) {
    events_.key({text, size});
    return true;
  }
  bool StartObject() {
    descend();
    events_.begin_object();
    return true;
  }
  bool StartArray() {
    descend();
    events_.begin_array();
    return true;
  }
  bool EndObject(unsigned) {
    --depth_;
    events_.end_object();
    return true;
  }
  bool EndArray(unsigned) {
    --depth_;
    events_.end_array();
    return true;
  }

 private:
  bool value(Json scalar) {
    events_.value(std::move(scalar));
    return true;
  }

  void descend() {
    if (++depth_ <= limits_.max_depth) return;
    fail(kind_, "{} nests deeper than the {} levels allowed", printable(what_), limits_.max_depth);
  }

  JsonEvents& events_;
  std::string_view what_;
  ErrorKind kind_;
  Json::Limits limits_;
  size_t depth_ = 0;
};

// Builds the value from the events.
class Builder final : public JsonEvents {
 public:
  void begin_object() override { open_.push_back({Json(Json::Object()), {}}); }
  void end_object() override { close(); }
  void begin_array() override { open_.push_back({Json(Json::Array()), {}}); }
  void end_array() override { close(); }
  void key(std::string_view key) override { open_.back().key = key; }
  void value(Json value) override {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().value.is_array()) {
      open_.back().value.as_array().push_back(std::move(value));
    } else {
      put_member(open_.back(), std::move(value));
    }
  }

  Json take() { return std::move(root_); }

 private:
  struct Open {
    Json value;
    std::string key;                                  // of the member whose value comes next
    std::unordered_map<std::string, size_t> index{};  // key to member, once there are kIndexFrom
  };

  void close() {
    Json closed = std::move(open_.back().value);
    open_.pop_back();
    value(std::move(closed));
  }

  static void put_member(Open& open, Json value) {
    Json::Object& members = open.value.as_object();
    if (Json* known = find(open, members)) {
      *known = std::move(value);
      return;
    }
    if (!open.index.empty()) open.index.emplace(open.key, members.size());
    members.emplace_back(std::move(open.key), std::move(value));
    if (members.size() == kIndexFrom) {
      for (size_t i = 0; i < members.size(); ++i) open.index.emplace(members[i].first, i);
    }
  }

  static Json* find(Open& open, Json::Object& members) {
    if (!open.index.empty()) {
      const auto at = open.index.find(open.key);
      return at == open.index.end() ? nullptr : &members[at->second].second;
    }
    const auto at = std::ranges::find(members, open.key, &Json::Member::first);
    return at == members.end() ? nullptr : &at->second;
  }

  std::vector<Open> open_;
  Json root_;
};

template <class Writer>
void write(const Json& value, Writer& writer) {
  if (value.is_null()) {
    writer.Null();
  } else if (value.is_bool()) {
    writer.Bool(value.as_bool());
  } else if (value.is_int()) {
    writer.Int64(value.as_int());
  } else if (value.is_double()) {
    if (std::isfinite(value.as_double())) {
      writer.Double(value.as_double());
    } else {
      writer.Null();
    }
  } else if (value.is_string()) {
    writer.String(value.as_string().data(), static_cast<unsigned>(value.as_string().size()));
  } else if (value.is_array()) {
    writer.StartArray();
    for (const Json& element : value.as_array()) write(element, writer);
    writer.EndArray();
  } else {
    writer.StartObject();
    for (const auto& [key, member] : value.as_object()) {
      writer.Key(key.data(), static_cast<unsigned>(key.size()));
      write(member, writer);
    }
    writer.EndObject();
  }
}

template <class T>
const T& as(const auto& value, size_t found) {
  if (const T* typed = std::get_if<T>(&value)) return *typed;
  const size_t wanted = std::remove_cvref_t<decltype(value)>(T()).index();
  fail(ErrorKind::bad_model, "expected {}, found {}", kTypeNames[wanted], kTypeNames[found]);
}

}  // namespace

std::string_view Json::type_name() const { return kTypeNames[value_.index()]; }
bool Json::as_bool() const { return as<bool>(value_, value_.index()); }
int64_t Json::as_int() const { return as<int64_t>(value_, value_.index()); }
double Json::as_double() const {
  return is_int() ? static_cast<double>(as_int()) : as<double>(value_, value_.index());
}
const std::string& Json::as_string() const { return as<std::string>(value_, value_.index()); }
const Json::Array& Json::as_array() const { return as<Array>(value_, value_.index()); }
const Json::Object& Json::as_object() const { return as<Object>(value_, value_.index()); }
Json::Array& Json::as_array() { return const_cast<Array&>(std::as_const(*this).as_array()); }
Json::Object& Json::as_object() { return const_cast<Object&>(std::as_const(*this).as_object()); }

const Json* Json::find(std::string_view key) const {
  const auto* members = std::get_if<Object>(&value_);
  if (members == nullptr) return nullptr;
  const auto at = std::ranges::find(*members, key, &Member::first);
  return at == members->end() ? nullptr : &at->second;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* member = find(key)) return *member;
  fail(ErrorKind::bad_model, "expected a member \"{}\" in {}", key, type_name());
}

Json& Json::operator[](std::string_view key) {
  if (is_null()) value_ = Object();
  if (const Json* member = find(key)) return const_cast<Json&>(*member);
  return as_object().emplace_back(std::string(key), Json()).second;
}

std::string Json::dump(int indent) const {
  rapidjson::StringBuffer buffer;
  if (indent > 0) {
    rapidjson::PrettyWriter<rapidjson::StringBuffer> writer(buffer);
    writer.SetIndent(' ', static_cast<unsigned>(indent));
    write(*this, writer);
  } else {
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    write(*this, writer);
  }
  return std::string(buffer.GetString(), buffer.GetSize());
}

void read_json_events(std::string_view text, std::string_view what, JsonEvents& events, ErrorKind kind,
                      Json::Limits limits) {
  constexpr unsigned kFlags = rapidjson::kParseIterativeFlag | rapidjson::kParseNumbersAsStringsFlag |
                              rapidjson::kParseValidateEncodingFlag;
  rapidjson::MemoryStream bytes(text.data(), text.size());
  rapidjson::EncodedInputStream<rapidjson::UTF8<>, rapidjson::MemoryStream> stream(bytes);
  Forwarder forwarder(events, what, kind, limits);
  rapidjson::Reader reader;
  const rapidjson::ParseResult result = reader.Parse<kFlags>(stream, forwarder);
  if (result.IsError()) {
    fail(kind, "{} is no valid JSON at byte {}: {}", printable(what), result.Offset(),
         rapidjson::GetParseError_En(result.Code()));
  }
  if (stream.Tell() < text.size()) {  // RapidJSON takes a NUL for the end
    fail(kind, "{} is no valid JSON at byte {}: a NUL", printable(what), stream.Tell());
  }
}

Json Json::parse(std::string_view text, std::string_view what, ErrorKind kind, Limits limits) {
  Builder builder;
  read_json_events(text, what, builder, kind, limits);
  return builder.take();
}

}  // namespace millrace
