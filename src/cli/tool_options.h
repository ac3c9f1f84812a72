// The options of a verb for tools: what the model may call, and the commands that answer.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/args.h"
#include "base/json.h"

namespace millrace {

struct ToolUse {
  Json::Array tools;                            // that the model is told of, as OpenAI's API has them
  std::shared_ptr<const Json> callable;         // those that it may call; nullptr: none
  bool are_required = false;                    // the first answer to a question calls
  std::map<std::string, std::string> commands;  // by the name of the tool; no other command is ever run
};

class ToolOptions {
 public:
  void declare(Args& args);

  bool is_given() const { return tools_.has_value(); }
  // Throws Error(usage).
  ToolUse use() const;

 private:
  std::optional<std::string> tools_, choice_;
  std::vector<std::string> commands_;
};

}  // namespace millrace
