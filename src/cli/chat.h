// A conversation in the terminal.
#pragma once

#include <string>

#include "cli/conversation.h"
#include "cli/line_editor.h"

namespace millrace {

// Reads lines, streams answers, and asks for the results of calls that no command answers. Lines that begin
// with / are commands; a line that ends in \ goes on in the next one, """ begins and ends a text of several
// lines; Ctrl-C stops an answer.
class Chat {
 public:
  explicit Chat(Conversation& conversation) : conversation_(conversation) {}

  // Until the end of the input or /exit.
  void run();

 private:
  // False: the conversation ends.
  bool obey(const std::string& command);
  bool answer(const std::string& question);
  bool answer_calls();

  Conversation& conversation_;
  LineEditor editor_;
};

}  // namespace millrace
