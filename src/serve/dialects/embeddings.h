// What the routes of several dialects for embeddings share.
#pragma once

#include "serve/dialect.h"
#include "serve/fields.h"

namespace millrace {

// The member `name`: a text, texts, ids or lists of ids, as token ids. Throws where the model gives no
// embeddings, or a text is longer than it reads.
std::vector<std::vector<int32_t>> read_texts_to_embed(Fields& fields, const ServedModel& model,
                                                      std::string_view name);
Ask ask_to_embed(std::vector<std::vector<int32_t>> texts);
// Throws where the model gives none.
void need_embeddings(const ServedModel& model);
Json::Array float_list(std::span<const float> values);

// Embeddings are never streamed.
class EmbeddingEncoder : public Encoder {
 public:
  void piece(const Piece&, const Totals&, std::string&) final {}
  void end(const Totals&, std::string&) final {}
  void fault(const ApiError&, std::string&) final {}
};

}  // namespace millrace
