#include "text/tokenizers/json_parts.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "text/tokenizers/base64.h"
#include "text/tokenizers/split_steps.h"

namespace millrace {
namespace {

// Against files that make a small text large.
constexpr size_t kMaxInsertedBytes = 1024;
constexpr size_t kMaxSteps = 256;

bool is_missing(const Json* part) { return part == nullptr || part->is_null(); }

std::string inserted_text(const Json& part, std::string_view key) {
  std::string text = part.at(key).as_string();
  if (text.size() > kMaxInsertedBytes) {
    fail(ErrorKind::bad_model, "\"{}\" of a tokenizer step has {} bytes, the most allowed are {}", key,
         text.size(), kMaxInsertedBytes);
  }
  return text;
}

// Calls `use` with every step of a part: itself, or what the sequences in it hold, in order.
void each_step(const Json* part, std::string_view list_key, const std::function<void(const Json&)>& use,
               size_t& n_steps) {
  if (is_missing(part)) return;
  if (part->at("type").as_string() == "Sequence") {
    for (const Json& step : part->at(list_key).as_array()) each_step(&step, list_key, use, n_steps);
    return;
  }
  if (++n_steps > kMaxSteps)
    fail(ErrorKind::bad_model, "a part of the tokenizer has more than {} steps", kMaxSteps);
  use(*part);
}

void each_step(const Json* part, std::string_view list_key, const std::function<void(const Json&)>& use) {
  size_t n_steps = 0;
  each_step(part, list_key, use, n_steps);
}

[[noreturn]] void refuse(std::string_view what, std::string_view name) {
  fail(ErrorKind::bad_model, "the tokenizer has the {} \"{}\", which is not known", what, printable(name));
}

struct PatternText {
  std::string text;
  bool is_regex = false;
};
PatternText pattern_of(const Json& part) {
  const Json& pattern = part.at("pattern");
  if (const Json* regex = pattern.find("Regex")) return {regex->as_string(), true};
  return {pattern.at("String").as_string(), false};
}

SplitBehavior behavior_of(std::string_view name) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  refuse("behavior", name);
}

normalizers::Sides sides_of(const Json& part) {
  const bool left = json_bool(part, "strip_left", true), right = json_bool(part, "strip_right", true);
  return left && right ? normalizers::Sides::both
         : left        ? normalizers::Sides::left
                       : normalizers::Sides::right;
}

normalizers::Step bert_normalizer(const Json& part) {
  normalizers::Bert options;
  options.cleans_text = json_bool(part, "clean_text", true);
  options.spaces_chinese = json_bool(part, "handle_chinese_chars", true);
  options.lowercases = json_bool(part, "lowercase", true);
  options.strips_accents = json_bool(part, "strip_accents", options.lowercases);
  return normalizers::bert(options);
}

normalizers::Step precompiled(const Json& part) {
  const std::string blob = decode_base64(part.at("precompiled_charsmap").as_string(), "precompiled_charsmap");
  return normalizers::precompiled(std::make_shared<PrecompiledCharsmap>(blob));
}

normalizers::Step replace_normalizer(const Json& part) {
  const PatternText pattern = pattern_of(part);
  std::string by = inserted_text(part, "content");
  return pattern.is_regex ? normalizers::replace_pattern(pattern.text, std::move(by))
                          : normalizers::replace(pattern.text, std::move(by));
}

void add_normalizer(const Json& part, NormalizerSteps& steps) {
  const std::string& type = part.at("type").as_string();
  if (type == "NFC") return steps.push_back(normalizers::unicode_form(NormalForm::nfc));
  if (type == "NFD") return steps.push_back(normalizers::unicode_form(NormalForm::nfd));
  if (type == "NFKC") return steps.push_back(normalizers::unicode_form(NormalForm::nfkc));
  if (type == "NFKD") return steps.push_back(normalizers::unicode_form(NormalForm::nfkd));
  if (type == "Lowercase") return steps.push_back(normalizers::lowercase());
  if (type == "Replace") return steps.push_back(replace_normalizer(part));
  if (type == "Prepend") return steps.push_back(normalizers::prepend(inserted_text(part, "prepend")));
  if (type == "Strip") {
    if (!json_bool(part, "strip_left", true) && !json_bool(part, "strip_right", true)) return;
    return steps.push_back(normalizers::strip(sides_of(part)));
  }
  if (type == "StripAccents") return steps.push_back(normalizers::strip_accents());
  if (type == "BertNormalizer") return steps.push_back(bert_normalizer(part));
  if (type == "Nmt") return steps.push_back(normalizers::nmt());
  if (type == "Precompiled") return steps.push_back(precompiled(part));
  if (type == "ByteLevel") return steps.push_back(normalizers::byte_level());
  refuse("normalizer", type);
}

splits::Metaspace metaspace_options(const Json& part) {
  splits::Metaspace options;
  options.mark = json_string(part, "replacement", "\xe2\x96\x81");
  options.is_cut = json_bool(part, "split", true);
  const std::string scheme = json_string(part, "prepend_scheme", "always");
  if (scheme == "never" || !json_bool(part, "add_prefix_space", true)) {
    options.prepend = splits::Prepend::never;
  } else if (scheme == "first") {
    options.prepend = splits::Prepend::first;
  } else if (scheme != "always") {
    refuse("prepend_scheme", scheme);
  }
  return options;
}

splits::Step split_step(const Json& part) {
  const PatternText pattern = pattern_of(part);
  const PatternOptions options{.behavior = behavior_of(part.at("behavior").as_string()),
                               .is_inverted = json_bool(part, "invert", false)};
  return pattern.is_regex ? make_pattern_split(pattern.text, options)
                          : make_text_split(pattern.text, options);
}

void add_byte_level(const Json& part, SplitSteps& steps, bool is_mapped) {
  if (json_bool(part, "add_prefix_space", true)) steps.push_back(splits::space_before());
  if (json_bool(part, "use_regex", true)) steps.push_back(make_pattern_split(patterns::kGpt2));
  if (is_mapped) steps.push_back(splits::to_bytes());
}

void add_split(const Json& part, SplitSteps& steps) {
  const std::string& type = part.at("type").as_string();
  if (type == "Split") return steps.push_back(split_step(part));
  if (type == "Metaspace") return steps.push_back(splits::metaspace(metaspace_options(part)));
  if (type == "Whitespace") return steps.push_back(splits::words());
  if (type == "WhitespaceSplit") return steps.push_back(splits::white_space(SplitBehavior::removed));
  if (type == "Digits") return steps.push_back(splits::digits(json_bool(part, "individual_digits", false)));
  if (type == "Punctuation") {
    const std::string behavior = json_string(part, "behavior", "Isolated");
    return steps.push_back(splits::punctuation(behavior_of(behavior)));
  }
  if (type == "BertPreTokenizer") {
    steps.push_back(splits::white_space(SplitBehavior::removed));
    return steps.push_back(splits::punctuation(SplitBehavior::isolated));
  }
  if (type == "CharDelimiterSplit") {
    return steps.push_back(
        make_text_split(part.at("delimiter").as_string(), {.behavior = SplitBehavior::removed}));
  }
  if (type == "FixedLength") {
    const int64_t length = json_size(part, "length", 5);
    if (length == 0) fail(ErrorKind::bad_model, "the pre-tokenizer FixedLength has a length of 0");
    return steps.push_back(splits::fixed_length(static_cast<size_t>(length)));
  }
  refuse("pre-tokenizer", type);
}

bool is_byte_level(const Json& part) { return part.at("type").as_string() == "ByteLevel"; }

int32_t checked_id(int64_t id, const Vocabulary& vocabulary) {
  if (!(id >= 0 && id < vocabulary.size())) {
    fail(ErrorKind::bad_model, "the post-processor adds the token {}, outside of the {} of the vocabulary",
         id, vocabulary.size());
  }
  return static_cast<int32_t>(id);
}

// [text, id] of BERT's and RoBERTa's processors.
int32_t pair_id(const Json& pair, const Vocabulary& vocabulary) {
  if (pair.as_array().size() != 2)
    fail(ErrorKind::bad_model, "a token of the post-processor is not [text, id]");
  return checked_id(pair.as_array()[1].as_int(), vocabulary);
}

// The template for two texts, A and B.
std::vector<PairPart> pair_template(const Json& part, const Vocabulary& vocabulary) {
  std::vector<PairPart> pair;
  const Json* items = part.find("pair");
  if (is_missing(items)) return pair;
  for (const Json& item : items->as_array()) {
    if (const Json* text = item.find("Sequence")) {
      const bool is_first = text->at("id").as_string() == "A";
      const auto type = static_cast<int32_t>(json_size(*text, "type_id", 0));
      pair.push_back({is_first ? PairPart::Kind::first_text : PairPart::Kind::second_text, -1, type});
      continue;
    }
    const Json& special = item.at("SpecialToken");
    const auto type = static_cast<int32_t>(json_size(special, "type_id", 0));
    for (const Json& id : part.at("special_tokens").at(special.at("id").as_string()).at("ids").as_array())
      pair.push_back({PairPart::Kind::token, checked_id(id.as_int(), vocabulary), type});
  }
  return pair;
}

void add_template(const Json& part, const Vocabulary& vocabulary, JsonTemplate& frame) {
  JsonTemplate added;
  bool is_behind = false;
  for (const Json& item : part.at("single").as_array()) {
    if (item.find("Sequence") != nullptr) {
      if (is_behind) fail(ErrorKind::bad_model, "the template of the post-processor holds the text twice");
      is_behind = true;
      continue;
    }
    const std::string& name = item.at("SpecialToken").at("id").as_string();
    for (const Json& id : part.at("special_tokens").at(name).at("ids").as_array()) {
      (is_behind ? added.suffix : added.prefix).push_back(checked_id(id.as_int(), vocabulary));
    }
  }
  if (!is_behind) fail(ErrorKind::bad_model, "the template of the post-processor does not hold the text");
  frame.prefix.insert(frame.prefix.begin(), added.prefix.begin(), added.prefix.end());
  frame.suffix.insert(frame.suffix.end(), added.suffix.begin(), added.suffix.end());
  frame.pair = pair_template(part, vocabulary);
}

void add_processor(const Json& part, const Vocabulary& vocabulary, JsonTemplate& frame) {
  const std::string& type = part.at("type").as_string();
  if (type == "ByteLevel") return;  // it trims the offsets of tokens only
  if (type == "TemplateProcessing") return add_template(part, vocabulary, frame);
  if (type != "BertProcessing" && type != "RobertaProcessing") refuse("post-processor", type);
  const int32_t cls = pair_id(part.at("cls"), vocabulary), separator = pair_id(part.at("sep"), vocabulary);
  frame.prefix.insert(frame.prefix.begin(), cls);
  frame.suffix.push_back(separator);
  frame.pair = type == "BertProcessing" ? bert_pair(cls, separator) : roberta_pair(cls, separator);
}

decoders::Step replace_decoder(const Json& part) {
  const PatternText pattern = pattern_of(part);
  std::string by = inserted_text(part, "content");
  return pattern.is_regex ? decoders::replace_pattern(pattern.text, std::move(by))
                          : decoders::replace(pattern.text, std::move(by));
}

void add_decoder(const Json& part, DecoderSteps& steps) {
  const std::string& type = part.at("type").as_string();
  const bool cleans_up = json_bool(part, "cleanup", true);
  if (type == "ByteLevel") return steps.push_back(decoders::byte_level());
  if (type == "ByteFallback") return steps.push_back(decoders::byte_fallback());
  if (type == "Fuse") return steps.push_back(decoders::fuse());
  if (type == "Replace") return steps.push_back(replace_decoder(part));
  if (type == "Metaspace") {
    const splits::Metaspace options = metaspace_options(part);
    return steps.push_back(decoders::metaspace(options.mark, options.prepend != splits::Prepend::never));
  }
  if (type == "Strip") {
    const auto n_start = static_cast<size_t>(json_size(part, "start", 0));
    const auto n_stop = static_cast<size_t>(json_size(part, "stop", 0));
    return steps.push_back(decoders::strip(part.at("content").as_string(), n_start, n_stop));
  }
  if (type == "WordPiece") {
    return steps.push_back(decoders::wordpiece(json_string(part, "prefix", "##"), cleans_up));
  }
  if (type == "BPEDecoder") return steps.push_back(decoders::bpe(json_string(part, "suffix", "</w>")));
  if (type == "CTC") {
    return steps.push_back(decoders::ctc(json_string(part, "pad_token", "<pad>"),
                                         json_string(part, "word_delimiter_token", "|"), cleans_up));
  }
  refuse("decoder", type);
}

}  // namespace

bool json_bool(const Json& object, std::string_view key, bool otherwise) {
  const Json* value = object.find(key);
  return is_missing(value) ? otherwise : value->as_bool();
}

std::string json_string(const Json& object, std::string_view key, std::string_view otherwise) {
  const Json* value = object.find(key);
  return is_missing(value) ? std::string(otherwise) : value->as_string();
}

int64_t json_size(const Json& object, std::string_view key, int64_t otherwise) {
  const Json* value = object.find(key);
  const int64_t size = is_missing(value) ? otherwise : value->as_int();
  if (size < 0) fail(ErrorKind::bad_model, "\"{}\" of a tokenizer step is {}, expected 0 or more", key, size);
  return size;
}

NormalizerSteps make_normalizers(const Json* part) {
  NormalizerSteps steps;
  each_step(part, "normalizers", [&](const Json& step) { add_normalizer(step, steps); });
  return steps;
}

// The byte-level alphabet is a detour where the step that writes it is the last one: the pieces stay bytes.
// If others come after it, they must see it, and the bytes are taken back at the end.
JsonSplits make_splits(const Json* part, const Json* normalizer, bool wants_bytes) {
  JsonSplits splits;
  bool is_mapped = false;
  each_step(normalizer, "normalizers", [&](const Json& step) { is_mapped |= is_byte_level(step); });
  std::vector<const Json*> steps;
  each_step(part, "pretokenizers", [&](const Json& step) { steps.push_back(&step); });
  for (size_t i = 0; i < steps.size(); ++i) {
    if (!is_byte_level(*steps[i])) {
      add_split(*steps[i], splits.steps);
      continue;
    }
    const bool stays_bytes = wants_bytes && !is_mapped && i + 1 == steps.size();
    splits.gives_bytes |= stays_bytes;
    is_mapped |= !stays_bytes;
    add_byte_level(*steps[i], splits.steps, !stays_bytes);
  }
  if (is_mapped && wants_bytes) {
    splits.steps.push_back(splits::from_bytes());
    splits.gives_bytes = true;
  }
  return splits;
}

JsonTemplate make_template(const Json* part, const Vocabulary& vocabulary) {
  JsonTemplate frame;
  each_step(part, "processors", [&](const Json& step) { add_processor(step, vocabulary, frame); });
  return frame;
}

DecoderSteps make_decoders(const Json* part) {
  DecoderSteps steps;
  each_step(part, "decoders", [&](const Json& step) { add_decoder(step, steps); });
  return steps;
}

}  // namespace millrace
