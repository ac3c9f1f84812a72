// The most tokens of reasoning that an answer may hold: then the sign that ends it is put, and the model
// answers with what it has thought of.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "text/output/output_parser.h"
#include "text/text_stream.h"
#include "text/tokenizer.h"

namespace millrace {

// const after it is made; any number of answers may share it.
class ReasoningLimit {
 public:
  // The tokenizer must outlive it. `syntax` has reasoning; `parser`: how the answer is read.
  ReasoningLimit(const ToolSyntax& syntax, const Tokenizer& tokenizer, const OutputParser::Options& parser,
                 int64_t max_tokens);

  // What ends the reasoning.
  const std::vector<int32_t>& end() const { return end_; }

 private:
  friend class ReasoningWatch;

  ToolSyntax syntax_;
  const Tokenizer& tokenizer_;
  OutputParser::Options parser_;
  int64_t max_tokens_;
  std::vector<int32_t> end_;
};

// Follows one answer.
class ReasoningWatch {
 public:
  // `limit` must outlive it.
  explicit ReasoningWatch(const ReasoningLimit& limit)
      : limit_(limit), parser_(limit.syntax_, limit.parser_) {}

  void take(int32_t token);
  // The limit is reached, and a character is complete: the end may be put.
  bool is_spent() const;

 private:
  const ReasoningLimit& limit_;
  OutputParser parser_;
  TextStream characters_;
  std::string last_bytes_;
  int64_t n_tokens_ = 0;
};

}  // namespace millrace
