#include "base/json.h"

#include <rapidjson/encodedstream.h>
#include <rapidjson/error/en.h>
#include <rapidjson/memorystream.h>
#include <rapidjson/prettywriter.h>
#include <rapidjson/reader.h>
#include <rapidjson/stringbuffer.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace millrace {
namespace {

constexpr const char* kTypeNames[] = {"null",     "a boolean", "an integer", "a number",
                                      "a string", "an array",  "an object"};

// Objects this large find equal keys through a table; below, by looking at each.
constexpr size_t kIndexFrom = 32;

// Builds the value from RapidJSON's events. The reader is iterative, so depth costs no stack.
class Builder {
 public:
  explicit Builder(size_t max_depth) : max_depth_(max_depth) {}

  bool Null() { return put(Json()); }
  bool Bool(bool value) { return put(Json(value)); }
  bool Int(int value) { return put(Json(int64_t{value})); }
  bool Uint(unsigned value) { return put(Json(int64_t{value})); }
  bool Int64(int64_t value) { return put(Json(value)); }
  bool Uint64(uint64_t value) {
    return put(value <= INT64_MAX ? Json(static_cast<int64_t>(value)) : Json(static_cast<double>(value)));
  }
  bool Double(double value) { return put(Json(value)); }
  bool RawNumber(const char*, unsigned, bool) { return false; }
  bool String(const char* text, unsigned size, bool) { return put(Json(std::string(text, size))); }
  bool Key(const char* text, unsigned size, bool) {
    open_.back().key.assign(text, size);
    return true;
  }
  bool StartObject() { return open(Json(Json::Object())); }
  bool StartArray() { return open(Json(Json::Array())); }
  bool EndObject(unsigned) { return close(); }
  bool EndArray(unsigned) { return close(); }

  bool is_too_deep() const { return is_too_deep_; }
  Json take() { return std::move(root_); }

 private:
  struct Open {
    Json value;
    std::string key;                                  // of the member whose value comes next
    std::unordered_map<std::string, size_t> index{};  // key to member, once there are kIndexFrom
  };

  bool open(Json value) {
    if (open_.size() >= max_depth_) {
      is_too_deep_ = true;
      return false;
    }
    open_.push_back({std::move(value), {}});
    return true;
  }

  bool close() {
    Json value = std::move(open_.back().value);
    open_.pop_back();
    return put(std::move(value));
  }

  bool put(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (open_.back().value.is_array()) {
      open_.back().value.as_array().push_back(std::move(value));
    } else {
      put_member(open_.back(), std::move(value));
    }
    return true;
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

  size_t max_depth_;
  bool is_too_deep_ = false;
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

Json Json::parse(std::string_view text, std::string_view what, ErrorKind kind, Limits limits) {
  constexpr unsigned kFlags = rapidjson::kParseIterativeFlag | rapidjson::kParseFullPrecisionFlag |
                              rapidjson::kParseValidateEncodingFlag;
  rapidjson::MemoryStream bytes(text.data(), text.size());
  rapidjson::EncodedInputStream<rapidjson::UTF8<>, rapidjson::MemoryStream> stream(bytes);
  Builder builder(limits.max_depth);
  rapidjson::Reader reader;
  const rapidjson::ParseResult result = reader.Parse<kFlags>(stream, builder);
  if (builder.is_too_deep()) {
    fail(kind, "{} nests deeper than the {} levels allowed", printable(what), limits.max_depth);
  }
  if (result.IsError()) {
    fail(kind, "{} is no valid JSON at byte {}: {}", printable(what), result.Offset(),
         rapidjson::GetParseError_En(result.Code()));
  }
  return builder.take();
}

}  // namespace millrace
