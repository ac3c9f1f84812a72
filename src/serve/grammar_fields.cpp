#include "serve/grammar_fields.h"

#include <optional>

#include "base/error.h"

namespace millrace {
namespace {

using Kind = GrammarSource::Kind;

constexpr size_t kMaxChoices = 1000;

// At most one of the fields may ask for something.
class Found {
 public:
  void add(std::string field, GrammarSource source) {
    if (only_) refuse_field(field, "{} and {} cannot both hold the answer", only_->field, field);
    only_ = {std::move(field), std::move(source)};
  }
  std::optional<AskedGrammar> only() && { return std::move(only_); }

 private:
  std::optional<AskedGrammar> only_;
};

GrammarSource schema_source(const Json& schema) { return {.kind = Kind::json_schema, .text = schema.dump()}; }

// A schema as such, or the text of one, as older clients send it.
void add_schema(Fields& fields, std::string_view name, Found& found) {
  const Json* schema = fields.any(name);
  if (schema == nullptr) return;
  found.add(fields.full_name(name),
            schema->is_string() ? GrammarSource{.kind = Kind::json_schema, .text = schema->as_string()}
                                : schema_source(*schema));
}
void add_regex(Fields& fields, std::string_view name, Found& found) {
  if (auto text = fields.text(name))
    found.add(fields.full_name(name), {.kind = Kind::regex, .text = *std::move(text)});
}
void add_grammar(Fields& fields, std::string_view name, Found& found) {
  if (auto text = fields.text(name)) found.add(fields.full_name(name), grammar_text(*std::move(text)));
}
void add_choice(Fields& fields, std::string_view name, Found& found) {
  auto texts = fields.texts(name, kMaxChoices);
  if (!texts.empty()) found.add(fields.full_name(name), {.kind = Kind::choice, .choices = std::move(texts)});
}

void add_response_format(Fields& fields, Found& found) {
  const Json* given = fields.object("response_format");
  if (given == nullptr) return;
  Fields format(*given, "response_format");
  const std::string type = format.need(format.choice("type", {"text", "json_object", "json_schema"}), "type");
  if (type == "json_object") {
    if (const Json* schema = format.any("schema")) {  // llama-server's
      found.add("response_format", schema_source(*schema));
    } else {
      found.add("response_format", {.kind = Kind::json_object});
    }
  } else if (type == "json_schema") {
    const Json* named = format.object("json_schema");
    if (named == nullptr) {
      const Json* schema = format.any("schema");  // llama-server's
      if (schema == nullptr) format.refuse_missing("json_schema");
      found.add("response_format", schema_source(*schema));
    } else {
      Fields inner(*named, "response_format.json_schema");
      inner.allow({"name", "description", "strict"});
      const Json* schema = inner.any("schema");
      if (schema == nullptr) inner.refuse_missing("schema");
      found.add("response_format", schema_source(*schema));
      inner.finish();
    }
  }
  format.finish();
}

void add_structured_outputs(Fields& fields, Found& found) {
  const Json* given = fields.object("structured_outputs");
  if (given == nullptr) return;
  Fields inner(*given, "structured_outputs");
  add_schema(inner, "json", found);
  add_regex(inner, "regex", found);
  add_choice(inner, "choice", found);
  add_grammar(inner, "grammar", found);
  if (inner.boolean("json_object").value_or(false))
    found.add("structured_outputs", {.kind = Kind::json_object});
  inner.finish();
}

}  // namespace

std::optional<AskedGrammar> find_grammar(Fields& fields) {
  Found found;
  add_response_format(fields, found);
  add_structured_outputs(fields, found);
  add_schema(fields, "guided_json", found);
  add_regex(fields, "guided_regex", found);
  add_choice(fields, "guided_choice", found);
  add_grammar(fields, "guided_grammar", found);
  add_schema(fields, "json_schema", found);
  add_grammar(fields, "grammar", found);
  return std::move(found).only();
}

std::shared_ptr<const Grammar> read_grammar(Fields& fields, GrammarCache* grammars) {
  const std::optional<AskedGrammar> asked = find_grammar(fields);
  return asked ? compiled(*asked, grammars) : nullptr;
}

std::shared_ptr<const Grammar> compiled(const AskedGrammar& asked, GrammarCache* grammars) {
  if (grammars == nullptr)
    refuse_field(asked.field, "{} needs a tokenizer, and the model has none", asked.field);
  try {
    return grammars->get(asked.source);
  } catch (const Error& error) {
    refuse_field(asked.field, "{}", error.what());
  }
}

AskedGrammar schema_grammar(std::string field, const Json& schema) {
  return {std::move(field), schema_source(schema)};
}

}  // namespace millrace
