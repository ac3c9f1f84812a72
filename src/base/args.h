// The arguments of a verb: declared once with the variable each one fills, then parsed, printed as help and
// listed for shell completion. Parsing is CLI11's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace millrace {

class Args {
 public:
  enum class Presence { needed, optional };
  struct Entry {
    std::vector<std::string> names;  // "--threads", "-t"; one plain name for a positional
    std::string help;
    bool takes_value;
    bool is_positional;
  };

  // `verb` as it is typed ("run").
  Args(const std::string& verb, const std::string& summary);
  Args(const Args&) = delete;
  Args& operator=(const Args&) = delete;
  ~Args();

  // Each variable must outlive parse(), and keeps its value where the argument is not given. `names`: "--a"
  // or "-x,--a".
  void positional(const std::string& name, const std::string& help, std::string& value, Presence presence);
  // All that stands after the other positional arguments.
  void positional(const std::string& name, const std::string& help, std::vector<std::string>& values);
  void flag(const std::string& names, const std::string& help, bool& value);
  void option(const std::string& names, const std::string& help, std::string& value);
  void option(const std::string& names, const std::string& help, int64_t& value);
  void option(const std::string& names, const std::string& help, int& value);
  void option(const std::string& names, const std::string& help, float& value);
  void option(const std::string& names, const std::string& help, std::optional<std::string>& value);
  void option(const std::string& names, const std::string& help, std::optional<uint64_t>& value);
  void option(const std::string& names, const std::string& help, std::optional<float>& value);
  void option(const std::string& names, const std::string& help, std::optional<int32_t>& value);
  // May be given more than once, one value each time.
  void option(const std::string& names, const std::string& help, std::vector<std::string>& value);

  // Fills the variables from what stands after the verb. True when there is something to run; false when help
  // was asked for, which is then printed. Throws Error(usage) with one sentence.
  bool parse(int argc, const char* const* argv);

  const std::vector<Entry>& entries() const { return entries_; }

 private:
  struct Parser;
  template <class T>
  void add_option(const std::string& names, const std::string& help, T& value);
  void note(const std::string& names, const std::string& help, bool takes_value);
  [[noreturn]] void refuse_extra(const std::string& argument) const;

  std::string verb_;
  std::vector<Entry> entries_;
  std::unique_ptr<Parser> parser_;
};

// "1,2,3" as token ids. Throws Error(usage) that names `what`.
std::vector<int32_t> parse_ids(const std::string& text, const std::string& what);

}  // namespace millrace
