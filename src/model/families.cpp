#include "model/families.h"

#include <algorithm>
#include <vector>

#include "base/nearest.h"
#include "model/layers/latent_attention.h"  // kExpandsLatents

namespace millrace {

// One line a family.
Family llama_family();
Family gemma_family();
Family deepseek_family();
Family deepseek4_family();
Family phi3_family();
Family cohere_family();
Family olmo2_family();
Family starcoder2_family();
Family glm4_family();
Family gemma3n_family();
Family gemma4_family();
Family qwen3next_family();
Family kimi_linear_family();
Family glm5_next_family();
Family mixture_family();
Family llama4_family();
Family gpt_oss_family();
Family bert_family();
Family modernbert_family();

std::span<const Family> all_families() {
  static const Family kFamilies[] = {
      llama_family(),  gemma_family(),     deepseek_family(),    deepseek4_family(),  phi3_family(),
      cohere_family(), olmo2_family(),     starcoder2_family(),  glm4_family(),       gemma3n_family(),
      gemma4_family(), qwen3next_family(), kimi_linear_family(), glm5_next_family(),  mixture_family(),
      llama4_family(), gpt_oss_family(),   bert_family(),        modernbert_family(),
  };
  return kFamilies;
}

const Family* find_family(std::string_view architecture) {
  const auto all = all_families();
  const auto at = std::ranges::find_if(all, [architecture](const Family& family) {
    return std::ranges::find(family.architectures, architecture) != family.architectures.end();
  });
  return at == all.end() ? nullptr : &*at;
}

const Family& family_of(const Metadata& metadata) {
  const auto architecture = metadata.need<std::string_view>("general.architecture");
  if (const Family* family = find_family(architecture)) return *family;
  std::vector<std::string_view> known;
  for (const Family& family : all_families())
    known.insert(known.end(), family.architectures.begin(), family.architectures.end());
  fail(ErrorKind::bad_model, "the architecture {} is not known; the nearest known one is {}",
       printable(architecture), nearest_name(architecture, known));
}

namespace {

// The checkpoint with one key more.
class WithKey final : public Checkpoint {
 public:
  WithKey(const Checkpoint& checkpoint, std::string_view key, MetaValue value)
      : checkpoint_(checkpoint), metadata_(checkpoint.metadata()) {
    metadata_.add(std::string(key), std::move(value));
  }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const NamedTensor> tensors() const override { return checkpoint_.tensors(); }
  const Tensor* find(std::string_view name) const override { return checkpoint_.find(name); }
  std::vector<std::span<const std::byte>> mapped_files() const override { return checkpoint_.mapped_files(); }

 private:
  const Checkpoint& checkpoint_;
  Metadata metadata_;
};

}  // namespace

std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, LatentForm form) {
  const Family& family = family_of(checkpoint.metadata());
  if (form == LatentForm::absorbed) return family.load(checkpoint);
  if (!family.has_latents) {
    fail(ErrorKind::usage, "the architecture {} has no latent attention that could be expanded",
         checkpoint.metadata().need<std::string_view>("general.architecture"));
  }
  return family.load(WithKey(checkpoint, kExpandsLatents, true));
}

}  // namespace millrace
