#include "serve/keys.h"

#include <openssl/crypto.h>

#include <algorithm>

#include "base/file.h"
#include "serve/fields.h"
#include "serve/net/http.h"

namespace millrace {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr size_t kMaxKeys = 10000;
constexpr int64_t kMostPerMinute = int64_t{1} << 40;

Digest digest_of_hex(const std::string& hex, const std::string& path) {
  Digest out{};
  const auto decoded = [&](size_t i) { return percent_decoded("%" + hex.substr(2 * i, 2)); };
  const bool is_hex =
      hex.size() == 2 * out.size() && hex.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  if (!is_hex) refuse_field(path, "{} should be 64 hex digits, as sha256sum prints them", path);
  // percent_decoded() refuses NUL, which a digest may hold.
  for (size_t i = 0; i < out.size(); ++i) {
    const auto byte = decoded(i);
    out[i] = byte ? static_cast<unsigned char>(byte->front()) : 0;
  }
  return out;
}

ApiKey read_key(const Json& entry, const std::string& path) {
  Fields fields(entry, path);
  ApiKey key;
  key.name = fields.need(fields.text("name"), "name");
  if (key.name.empty() || key.name.size() > 64 || printable(key.name) != key.name)
    refuse_field(path, "{}.name should have 1 to 64 plain characters", path);
  key.digest = digest_of_hex(fields.need(fields.text("sha256"), "sha256"), fields.full_name("sha256"));
  key.models = fields.texts("models", 1000);
  key.requests = Allowance(fields.integer("requests_per_minute", 1, kMostPerMinute).value_or(0));
  key.tokens = Allowance(fields.integer("tokens_per_minute", 1, kMostPerMinute).value_or(0));
  fields.finish();
  return key;
}

}  // namespace

double Allowance::wait_for(double n, Time now) {
  if (per_minute_ == 0) return 0.0;
  const double rate = static_cast<double>(per_minute_) / 60.0;  // a second
  if (filled_at_ != Time{}) {
    const double passed_s = std::chrono::duration<double>(now - filled_at_).count();
    n_left_ = std::min(static_cast<double>(per_minute_), n_left_ + passed_s * rate);
  }
  filled_at_ = now;
  return n_left_ >= n ? 0.0 : (n - n_left_) / rate;
}

KeyRing KeyRing::of_file(const std::filesystem::path& path) {
  const std::string what = printable(path.string(), 200);
  const Json file = Json::parse(read_file(path, kMaxFileBytes, ErrorKind::usage), what, ErrorKind::usage);
  try {
    Fields fields(file);
    const Json* list = fields.array("keys", kMaxKeys);
    if (list == nullptr) fields.refuse_missing("keys");
    KeyRing ring;
    for (size_t i = 0; i < list->as_array().size(); ++i)
      ring.add(read_key(list->as_array()[i], fmt::format("keys[{}]", i)));
    fields.finish();
    if (ring.empty()) fail(ErrorKind::usage, "{} holds no key", what);
    return ring;
  } catch (const ApiError& error) {
    fail(ErrorKind::usage, "{}: {}", what, error.what());
  }
}

void KeyRing::add(ApiKey key) { keys_.push_back(std::make_shared<ApiKey>(std::move(key))); }

std::shared_ptr<ApiKey> KeyRing::find(std::string_view key) const {
  const Digest digest = sha256(key);
  std::shared_ptr<ApiKey> found;
  for (const auto& each : keys_) {
    if (CRYPTO_memcmp(each->digest.data(), digest.data(), digest.size()) == 0) found = each;
  }
  return found;
}

void KeyRing::take_over_allowances(const KeyRing& other) {
  for (const auto& key : keys_) {
    const auto known =
        std::ranges::find(other.keys_, key->digest, [](const auto& each) { return each->digest; });
    if (known == other.keys_.end()) continue;
    if ((*known)->requests.per_minute() == key->requests.per_minute()) key->requests = (*known)->requests;
    if ((*known)->tokens.per_minute() == key->tokens.per_minute()) key->tokens = (*known)->tokens;
  }
}

}  // namespace millrace
