// The state of one render: variables in scopes, the output, and the budget. A template is a program that came
// with the model: what it may take of time and memory is bounded.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace millrace::jinja {

class Context {
 public:
  static constexpr int64_t kMaxSteps = 4'000'000;
  static constexpr size_t kMaxBytes = size_t{64} << 20;  // of output, and of any single string
  static constexpr int kMaxDepth = 200;                  // of calls and nested expressions
  static constexpr std::chrono::seconds kMaxTime{10};

  explicit Context(std::string_view now) : now_(now) { push(); }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() {
    for (const auto& space : spaces_) space->entries.clear();
  }

  // Charges work. Throws RenderError when the budget is spent.
  void step(int64_t n = 1) {
    n_steps_ += n;
    if (n_steps_ >= next_look_) look_at_budget();
  }
  // Refuses a string of that size before it is made.
  void expect_room(size_t n_bytes) {
    if (n_bytes > kMaxBytes) throw RenderError("the template makes a text that is too long");
    step(1 + static_cast<int64_t>(n_bytes / 64));
  }

  void write(std::string_view text) {
    expect_room(out_.size() + text.size());
    n_steps_ -= static_cast<int64_t>(out_.size() / 64);  // only what is new costs
    out_ += text;
  }
  // Everything written from here on goes to a text of its own, until take_capture().
  std::string begin_capture() { return std::exchange(out_, {}); }
  std::string end_capture(std::string before) { return std::exchange(out_, std::move(before)); }

  void push() { scopes_.emplace_back(); }
  void pop() { scopes_.pop_back(); }
  void set(std::string_view name, Value value);
  const Value* find(std::string_view name) const;
  // Scopes beyond the first: a macro sees only the outermost.
  using Scope = std::vector<std::pair<std::string, Value>>;
  std::vector<Scope> hide_scopes();
  void restore_scopes(std::vector<Scope> scopes);

  class Depth {
   public:
    explicit Depth(Context& context) : context_(context) {
      if (++context_.depth_ > kMaxDepth) {
        --context_.depth_;
        throw RenderError("the template nests too deeply");
      }
    }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;
    ~Depth() { --context_.depth_; }

   private:
    Context& context_;
  };

  // A namespace may come to hold itself: it is emptied when the render ends, so that nothing is left.
  void own(std::shared_ptr<Dict> space) { spaces_.push_back(std::move(space)); }

  std::string_view now() const { return now_; }
  std::string take_output() { return std::move(out_); }

 private:
  void look_at_budget();

  std::string out_;
  std::vector<Scope> scopes_;
  std::vector<std::shared_ptr<Dict>> spaces_;
  std::string_view now_;
  int64_t n_steps_ = 0;
  int64_t next_look_ = 4096;
  int depth_ = 0;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace millrace::jinja
