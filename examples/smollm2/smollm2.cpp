// Answers prompts with SmolLM2-135M-Instruct: several of different lengths at a time, on the GPU where there is one, else on
// the CPU. Says whether every token is the one that the numpy model found (model.py), and draws where the time goes.
//
//   smollm2 MODEL.safetensors [--device cpu|gpu] [--dtype f32|f16] [--slots N] [--picture FILE.svg]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <stdexcept>

#include "picture.hpp"
#include "serving.hpp"

namespace {

#ifdef WITH_CUDA
constexpr bool with_gpu = true;
#else
constexpr bool with_gpu = false;
std::unique_ptr<Backend> make_gpu_backend(bool) {
  throw std::runtime_error("--device = gpu: this program was built without GPU code, or where there is no cuBLAS");
}
#endif

struct Options {
  std::string file, device = with_gpu && api::best_device() == api::Device::gpu ? "gpu" : "cpu", dtype, picture;
  int slots = 4;
};

[[noreturn]] void usage(const std::string& wrong) {
  std::fprintf(
      stderr,
      "%s\nUsage: smollm2 MODEL.safetensors [--device cpu|gpu] [--dtype f32|f16] [--slots 1..64] [--picture FILE.svg]\n",
      wrong.c_str());
  std::exit(2);
}

Options options(int argc, char** argv) {
  Options o;
  const std::map<std::string, std::string*> names{{"--device", &o.device}, {"--dtype", &o.dtype}, {"--picture", &o.picture}};
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("--") && i + 1 == argc) usage(word + ": needs a value");
    if (const auto found = names.find(word); found != names.end()) {
      *found->second = argv[++i];
    } else if (word == "--slots") {
      o.slots = std::atoi(argv[++i]);
    } else if (word.starts_with("--") || !o.file.empty()) {
      usage(word + ": not an option");
    } else {
      o.file = word;
    }
  }
  if (o.dtype.empty()) o.dtype = o.device == "gpu" ? "f16" : "f32";
  if (o.file.empty()) usage("MODEL.safetensors: must be given; model.py writes it");
  if (o.device != "cpu" && o.device != "gpu") usage("--device = " + o.device + ": must be cpu or gpu");
  if (o.dtype != "f32" && o.dtype != "f16") usage("--dtype = " + o.dtype + ": must be f32 or f16");
  if (o.device == "gpu" && o.dtype != "f16") usage("--dtype = " + o.dtype + ": must be f16 on the GPU");
  if (o.slots < 1 || o.slots > 64) usage("--slots: must be 1 .. 64");
  return o;
}

std::unique_ptr<Backend> backend_for(const Options& o) {
  if (o.device == "gpu") return make_gpu_backend(!o.picture.empty());
  return make_cpu_backend(o.dtype == "f32" ? fl::DType::f32 : fl::DType::f16);
}

// What the answers are compared with, and the words that tokens stand for.
struct Expected {
  std::vector<std::span<const std::int32_t>> prompts, answers;
  std::vector<std::span<const std::uint8_t>> text;
  const float* leads;  // by how much a token's logit was above the second, in deviations of all logits; all answers in a row

  explicit Expected(const Safetensors& file)
      : prompts(file.ragged<std::int32_t>("prompts", fl::DType::i32)),
        answers(file.ragged<std::int32_t>("answers", fl::DType::i32)),
        text(file.ragged<std::uint8_t>("text", fl::DType::u8)),
        leads(file.tensor("leads", fl::DType::f32, {file.tensor("answers", fl::DType::i32, {-1}).shape[0]})
                  .data_as<const float>()) {
    if (prompts.empty() || answers.size() != prompts.size()) {
      throw std::runtime_error("answers: must be one for each prompt, and there must be a prompt");
    }
    for (const auto& prompt : prompts) {
      const bool known = std::ranges::all_of(prompt, [&](int id) { return id >= 0 && id < static_cast<int>(text.size()); });
      if (prompt.empty() || !known) throw std::runtime_error("prompts: must have tokens, all of the vocabulary");
    }
  }
  std::string words(std::span<const std::int32_t> ids) const {
    std::string all;
    for (const std::int32_t id : ids) {
      for (const std::uint8_t byte : text[static_cast<std::size_t>(id)]) all += static_cast<char>(byte);
    }
    return all;
  }
};

// Prints every answer and where it leaves numpy's.
bool compare(const Service& service, const Expected& expected) {
  std::size_t equal = 0, all = 0;
  bool right = true;
  for (std::size_t b = 0; b < service.answers.size(); ++b) {
    const Tokens& got = service.answers[b];
    const auto want = expected.answers[b];
    std::printf("\n%zu. %zu tokens read, %zu written:\n%s\n", b + 1, expected.prompts[b].size(), got.size(),
                expected.words(got).c_str());
    const auto [end, other] = std::ranges::mismatch(got, want);
    const auto same = static_cast<std::size_t>(end - got.begin());
    equal += same, all += want.size();
    if (end == got.end() && other == want.end()) continue;
    right = false;
    const auto at = static_cast<std::size_t>(want.data() - expected.answers[0].data()) + same;
    std::printf(
        "   token %zu DIFFERS from numpy's; there numpy's first was ahead of its second by %.2g deviations of the logits\n",
        same, other == want.end() ? NAN : static_cast<double>(expected.leads[at]));
  }
  std::printf("\nTokens: %zu of %zu are numpy's%s\n", equal, all, right ? "" : ", the others follow a token that differs");
  return right;
}

void print_times(const std::vector<StepRecord>& steps, bool with_parts) {
  for (const bool prefill : {true, false}) {
    double all = 0;
    int tokens = 0, count = 0;
    Milliseconds parts{};
    for (const StepRecord& s : steps) {
      if (s.prefill != prefill) continue;
      all += s.milliseconds(), tokens += s.tokens, ++count;
      for (std::size_t p = 0; p < parts.size(); ++p) parts[p] += s.times[p];
    }
    if (count == 0) continue;
    std::printf("%s: %d tokens in %d %s, %.*f ms, %.0f tokens/s\n", prefill ? "Prefill" : "Decode", tokens, count,
                count == 1 ? "step" : "steps", all < 100 ? 2 : 0, all, 1e3 * tokens / all);
    if (!with_parts) continue;
    for (std::size_t p = 0; p < parts.size(); ++p)
      std::printf("%s %s %.1f %%", p ? "," : " ", part_names[p], 100 * parts[p] / all);
    std::printf("\n");
  }
}

void write_file(const std::string& path, const std::string& text) {  // aside and renamed: whole, or not at all
  const std::string aside = path + ".part";
  std::FILE* file = std::fopen(aside.c_str(), "wb");
  const bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if ((file != nullptr && std::fclose(file) != 0) || !written || std::rename(aside.c_str(), path.c_str()) != 0) {
    throw std::runtime_error("--picture = " + path + ": can't be written");
  }
}

int run(const Options& o) {
  const Safetensors file(o.file);
  const Expected expected(file);
  const auto new_tokens = static_cast<int>(file.number("new_tokens"));
  std::size_t longest = 0, all = 0;
  for (const auto& prompt : expected.prompts) longest = std::max(longest, prompt.size()), all += prompt.size();
  const int slots = std::min(o.slots, static_cast<int>(expected.prompts.size()));
  const int pages = slots * fl::pages_for(static_cast<std::int32_t>(longest) + new_tokens, page_size);
  const Limits limits{.slots = slots, .step_tokens = static_cast<int>(all), .pages = pages};
  const std::unique_ptr<Backend> backend = backend_for(o);
  Model model(file, *backend, limits);
  if (static_cast<int>(expected.text.size()) != model.shape().vocabulary) {
    throw std::runtime_error("text: must be one for each token");
  }
  const auto answer = [&] {
    return serve(model, expected.prompts, limits, new_tokens, static_cast<std::int32_t>(file.number("eos")));
  };
  if (o.device == "gpu") answer();  // loads the kernels, and captures: what follows is how it goes on
  const Service service = answer();
  const std::string title = file.text("source") + ", on " + backend->name();
  std::printf("%s\n", title.c_str());
  const bool right = compare(service, expected);
  print_times(service.steps, backend->measures_parts());
  if (!o.picture.empty()) write_file(o.picture, picture(service.steps, title)), std::printf("%s\n", o.picture.c_str());
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = options(argc, argv);
  try {
    return run(o);
  } catch (const std::exception& wrong) {
    std::fprintf(stderr, "%s\n", wrong.what());
    return 2;
  }
}
