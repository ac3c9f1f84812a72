#include "text/tokenizers/decoder.h"

#include <algorithm>

#include "text/tokenizers/byte_level.h"
#include "text/tokenizers/normalizer.h"
#include "text/tokenizers/vocabulary.h"
#include "text/unicode.h"

namespace millrace::decoders {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view by) {
  if (from.empty()) return;
  std::string out;
  size_t at = 0;
  for (size_t found = text.find(from); found != std::string::npos; found = text.find(from, at)) {
    out.append(text, at, found - at).append(by);
    at = found + from.size();
  }
  if (at == 0) return;
  out.append(text, at);
  text.swap(out);
}

void join(std::vector<std::string>& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  tokens.clear();
  tokens.push_back(std::move(all));
}

// Every token by itself.
class EachStep : public DecoderStep {
 public:
  void decode(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) decode_one(token);
  }
};

class ByteLevelStep final : public DecoderStep {
 public:
  void decode(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) decode_one(token);
    join(tokens);
  }
  void decode_one(std::string& token) const override {
    std::string bytes;
    if (append_from_byte_level(bytes, token)) token.swap(bytes);
  }
};

class ByteFallbackStep final : public DecoderStep {
 public:
  void decode(std::vector<std::string>& tokens) const override {
    std::vector<std::string> out;
    std::string bytes;
    for (std::string& token : tokens) {
      if (const auto byte = byte_of_piece(token)) {
        bytes += static_cast<char>(*byte);
      } else {
        put(bytes, out);
        out.push_back(std::move(token));
      }
    }
    put(bytes, out);
    tokens.swap(out);
  }
  void decode_one(std::string& token) const override {
    if (const auto byte = byte_of_piece(token)) token.assign(1, static_cast<char>(*byte));
  }

 private:
  static void put(std::string& bytes, std::vector<std::string>& out) {
    if (is_utf8(bytes)) {
      if (!bytes.empty()) out.push_back(bytes);
    } else {
      out.insert(out.end(), bytes.size(), "\xef\xbf\xbd");
    }
    bytes.clear();
  }
};

class FuseStep final : public DecoderStep {
 public:
  void decode(std::vector<std::string>& tokens) const override { join(tokens); }
  void decode_one(std::string&) const override {}
};

class ReplaceStep final : public EachStep {
 public:
  ReplaceStep(std::string from, std::string by) : from_(std::move(from)), by_(std::move(by)) {}
  void decode_one(std::string& token) const override { replace_all(token, from_, by_); }

 private:
  std::string from_, by_;
};

class ReplacePatternStep final : public EachStep {
 public:
  explicit ReplacePatternStep(normalizers::Step replace) : replace_(std::move(replace)) {}
  void decode_one(std::string& token) const override {
    std::string out;
    // The steps before may have left broken UTF-8, which a pattern must not see.
    if (is_valid_utf8(token) && replace_->apply(token, out)) token.swap(out);
  }

 private:
  normalizers::Step replace_;
};

class StripStep final : public DecoderStep {
 public:
  StripStep(std::string content, size_t n_start, size_t n_stop)
      : content_(std::move(content)), n_start_(n_start), n_stop_(n_stop) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (std::string& token : tokens) strip(token);
  }
  void decode_one(std::string&) const override {}  // the ends of the text, not of this token

 private:
  void strip(std::string& token) const {
    if (content_.empty()) return;
    std::string_view left = token;
    for (size_t n = 0; n < n_start_ && left.starts_with(content_); ++n) left.remove_prefix(content_.size());
    for (size_t n = 0; n < n_stop_ && left.ends_with(content_); ++n) left.remove_suffix(content_.size());
    if (left.size() < token.size()) token = std::string(left);
  }
  std::string content_;
  size_t n_start_, n_stop_;
};

class MetaspaceStep final : public DecoderStep {
 public:
  MetaspaceStep(std::string mark, bool drops_first) : mark_(std::move(mark)), drops_first_(drops_first) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], mark_, i == 0 && drops_first_ ? "" : " ");
  }
  void decode_one(std::string& token) const override { replace_all(token, mark_, " "); }

 private:
  std::string mark_;
  bool drops_first_;
};

// English as BERT's authors wrote it.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, by] : kRules) replace_all(text, from, by);
}

class WordpieceStep final : public DecoderStep {
 public:
  WordpieceStep(std::string prefix, bool cleans_up) : prefix_(std::move(prefix)), cleans_up_(cleans_up) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) join_word(tokens[i]);
      if (cleans_up_) clean_up(tokens[i]);
    }
  }
  void decode_one(std::string& token) const override {
    join_word(token);
    if (cleans_up_) clean_up(token);
  }

 private:
  void join_word(std::string& token) const {
    if (token.starts_with(prefix_)) {
      token.erase(0, prefix_.size());
    } else {
      token.insert(0, " ");
    }
  }
  std::string prefix_;
  bool cleans_up_;
};

class BpeStep final : public DecoderStep {
 public:
  explicit BpeStep(std::string suffix) : suffix_(std::move(suffix)) {}
  void decode(std::vector<std::string>& tokens) const override {
    for (size_t i = 0; i < tokens.size(); ++i)
      replace_all(tokens[i], suffix_, i + 1 == tokens.size() ? "" : " ");
  }
  void decode_one(std::string& token) const override { replace_all(token, suffix_, " "); }

 private:
  std::string suffix_;
};

class CtcStep final : public DecoderStep {
 public:
  CtcStep(std::string pad, std::string delimiter, bool cleans_up)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleans_up_(cleans_up) {}
  void decode(std::vector<std::string>& tokens) const override {
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (std::string& token : tokens) decode_one(token);
    std::erase_if(tokens, [](const std::string& token) { return token.empty(); });
  }
  void decode_one(std::string& token) const override {
    replace_all(token, pad_, "");
    if (!cleans_up_) return;
    clean_up(token);
    replace_all(token, delimiter_, " ");
  }

 private:
  std::string pad_, delimiter_;
  bool cleans_up_;
};

}  // namespace

Step byte_level() { return std::make_unique<ByteLevelStep>(); }
Step byte_fallback() { return std::make_unique<ByteFallbackStep>(); }
Step fuse() { return std::make_unique<FuseStep>(); }
Step replace(std::string text, std::string by) {
  return std::make_unique<ReplaceStep>(std::move(text), std::move(by));
}
Step replace_pattern(std::string_view pattern, std::string by) {
  return std::make_unique<ReplacePatternStep>(normalizers::replace_pattern(pattern, std::move(by)));
}
Step strip(std::string content, size_t n_start, size_t n_stop) {
  return std::make_unique<StripStep>(std::move(content), n_start, n_stop);
}
Step metaspace(std::string mark, bool drops_first) {
  return std::make_unique<MetaspaceStep>(std::move(mark), drops_first);
}
Step wordpiece(std::string prefix, bool cleans_up) {
  return std::make_unique<WordpieceStep>(std::move(prefix), cleans_up);
}
Step bpe(std::string suffix) { return std::make_unique<BpeStep>(std::move(suffix)); }
Step ctc(std::string pad, std::string delimiter, bool cleans_up) {
  return std::make_unique<CtcStep>(std::move(pad), std::move(delimiter), cleans_up);
}

}  // namespace millrace::decoders
