// For tests: models that are a hash of the tokens that they find in their pages and slots, so that whatever
// is planned, cached, preempted or cancelled wrongly changes an answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/engine.h"

namespace millrace::testing {

constexpr int64_t kVocab = 50;

// Keeps each token in its page; the logits of a row are a hash of all tokens up to it, read back from the
// pages.
class HashModel : public Model {
 public:
  explicit HashModel(int64_t n_vocab = kVocab) {
    shape_.family = "hash";
    shape_.n_layers = 1;
    shape_.hidden = 1;
    shape_.n_vocab = n_vocab;
    shape_.n_ctx_train = 200;
    shape_.kv_layers = {{.n_kv_heads = 1, .k_head_dim = 1, .v_head_dim = 1}};
    shape_.long_rope_from = 40;
  }

  const ModelShape& shape() const override { return shape_; }

  Tensor forward(const Pass& pass) const override {
    const Batch& batch = pass.batch;
    const Tensor logits = pass.arena.take(Dtype::f32, {batch.logit_rows.dim(0), shape_.n_vocab});
    if (pass.arena.is_measuring()) return logits;
    for (int64_t row = 0; row < batch.n_rows(); ++row) {
      *slot(pass, 0, row, batch.positions.i32()[row]) = static_cast<float>(batch.tokens.i32()[row]);
    }
    for (int64_t i = 0; i < batch.logit_rows.dim(0); ++i)
      write_logits(pass, batch.logit_rows.i32()[i], logits.f32() + i * shape_.n_vocab);
    return logits;
  }

 protected:
  ModelShape shape_;

  static float* slot(const Pass& pass, int64_t layer, int64_t row, int64_t position) {
    const KvPages& pages = pass.kv.layer(layer);  // k: (n_pages, 1, page_size, 1)
    const Tensor& tables = pages.are_panes ? pass.batch.pane_tables : pass.batch.page_tables;
    const int64_t page_size = pages.k.dim(2);
    const int32_t page =
        tables.i32()[pass.batch.seq_of_row.i32()[row] * tables.dim(1) + position / page_size];
    check(page >= 0 && page < pages.k.dim(0), "a position that has a page");
    return pages.k.f32() + page * page_size + position % page_size;
  }

 private:
  void write_logits(const Pass& pass, int64_t row, float* logits) const {
    uint64_t hash = static_cast<uint64_t>(pass.batch.rope_tables.i32()[pass.batch.seq_of_row.i32()[row]]);
    for (int64_t position = 0; position <= pass.batch.positions.i32()[row]; ++position) {
      hash = (hash + static_cast<uint64_t>(*slot(pass, 0, row, position)) + 1) * 0x9e3779b97f4a7c15;
    }
    for (int64_t token = 0; token < shape_.n_vocab; ++token) {
      hash = hash * 6364136223846793005u + 1442695040888963407u;
      logits[token] = static_cast<float>(hash >> 40) * 0x1p-22f;
    }
  }
};

// Folds the tokens of a sequence into its state besides, and turns the logits by it.
class StateModel final : public HashModel {
 public:
  explicit StateModel(int64_t n_vocab = kVocab) : HashModel(n_vocab) {
    shape_.state_layers = {{.n_v_heads = 1, .k_head_dim = 1, .v_head_dim = 1}};
  }

  Tensor forward(const Pass& pass) const override {
    const Tensor logits = HashModel::forward(pass);
    if (pass.arena.is_measuring()) return logits;
    const Batch& batch = pass.batch;
    float* slots = pass.states.layer(0).matrix.f32();  // (n_slots, 1, 1, 1)
    int64_t n_turned = 0;
    for (int64_t s = 0; s < batch.n_seqs(); ++s) {
      const int32_t from = batch.state_from.i32()[s];
      int32_t state = from < 0 ? 0 : static_cast<int32_t>(slots[from]);
      for (int32_t row = batch.row_begin.i32()[s]; row < batch.row_begin.i32()[s + 1]; ++row) {
        state = (state * 31 + batch.tokens.i32()[row] + 1) % 65521;
        if (n_turned == logits.dim(0) || batch.logit_rows.i32()[n_turned] != row) continue;
        float* turned = logits.f32() + shape_.n_vocab * n_turned++;
        std::rotate(turned, turned + state % shape_.n_vocab, turned + shape_.n_vocab);
      }
      slots[batch.state_to.i32()[s]] = static_cast<float>(state);
    }
    return logits;
  }
};

// Keeps the tokens in a layer with a window besides, and turns the logits by those that it sees there.
class WindowModel final : public HashModel {
 public:
  static constexpr int64_t kWindow = 5;
  explicit WindowModel(int64_t n_vocab = kVocab) : HashModel(n_vocab) {
    shape_.kv_layers.push_back({.n_kv_heads = 1, .k_head_dim = 1, .v_head_dim = 1, .window = kWindow});
  }

  Tensor forward(const Pass& pass) const override {
    const Tensor logits = HashModel::forward(pass);
    if (pass.arena.is_measuring()) return logits;
    const Batch& batch = pass.batch;
    for (int64_t row = 0; row < batch.n_rows(); ++row)
      *slot(pass, 1, row, batch.positions.i32()[row]) = static_cast<float>(batch.tokens.i32()[row]);
    for (int64_t i = 0; i < batch.logit_rows.dim(0); ++i) {
      const int32_t row = batch.logit_rows.i32()[i], position = batch.positions.i32()[row];
      int32_t sum = 0;
      for (int64_t j = std::max<int64_t>(0, position - kWindow + 1); j <= position; ++j)
        sum = (sum * 31 + static_cast<int32_t>(*slot(pass, 1, row, j)) + 1) % 65521;
      float* turned = logits.f32() + shape_.n_vocab * i;
      std::rotate(turned, turned + sum % shape_.n_vocab, turned + shape_.n_vocab);
    }
    return logits;
  }
};

// Token 13 makes the logits NaN.
class UnsoundModel final : public Model {
 public:
  const ModelShape& shape() const override { return model_.shape(); }
  Tensor forward(const Pass& pass) const override {
    const Tensor logits = model_.forward(pass);
    if (pass.arena.is_measuring()) return logits;
    for (int64_t i = 0; i < pass.batch.logit_rows.dim(0); ++i) {
      const int32_t row = pass.batch.logit_rows.i32()[i];
      if (pass.batch.tokens.i32()[row] == 13) logits.f32()[i * kVocab] = std::nanf("");
    }
    return logits;
  }

 private:
  HashModel model_;
};

// Of such models, which run no ops: what draws their tokens.
class NoBackend final : public Backend {
 public:
  std::string_view name() const override { return "none"; }
  void run(const Op& op) override { draws_->run(op); }

 private:
  std::unique_ptr<Backend> draws_ = make_reference_backend();
};

struct Answer {
  std::vector<int32_t> tokens;
  FinishReason reason;
  Usage usage;
  std::vector<std::pair<int32_t, float>>
      prompt_logprobs;  // of every answer: the best token, the chosen one's
  std::string error;
};

inline std::vector<Answer> answers_of(const Engine::Ticket& ticket, int n) {
  std::vector<Answer> answers(static_cast<size_t>(n));
  while (const auto event = ticket.events->pop()) {
    for (const TokenLogprobs& one : event->prompt_logprobs) {
      for (Answer& each : answers) each.prompt_logprobs.emplace_back(one.best.front().first, one.chosen);
    }
    Answer& answer = answers.at(static_cast<size_t>(event->index));
    if (event->token) answer.tokens.push_back(*event->token);
    if (event->finish_reason) answer.reason = *event->finish_reason;
    answer.usage = event->usage;
    answer.error = event->error;
  }
  return answers;
}

inline Answer answer_of(const Engine::Ticket& ticket) { return answers_of(ticket, 1).front(); }

}  // namespace millrace::testing
