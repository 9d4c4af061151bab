// train_gpt_local: the example's training on this machine alone, ranks being processes.
//   train_gpt_local --ranks 2 --steps 1000 --checkpoints /tmp/gpt

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>

#include "examples/train_gpt/local.h"
#include "examples/train_gpt/trainer.h"

namespace {

using train_gpt::LocalOptions;
using train_gpt::Progress;
using train_gpt::RankReport;
using train_gpt::TrainConfig;

constexpr char kHelp[] =
    "Trains a small byte-level GPT on ranks that are processes of this machine.\n"
    "  --ranks N (2)  --steps N (1000)  --batch N (24)  --layers N (4)  --heads N (4)\n"
    "  --width N (128)  --context N (64)  --learning_rate X (2e-3)  --warm_up N (100)  --seed N "
    "(1)\n"
    "  --text FILE (the Bible of Debian's bible-kjv)  --checkpoints DIR (none)\n"
    "  --checkpoint_every N (50)  --temperature X (0.7)  --sample_bytes N (400)\n"
    "  --max_restarts N (3)  --kill_at_step N (0: never): kills the last rank once, to see it "
    "recover\n"
    "Example: train_gpt_local --ranks 2 --checkpoints /tmp/gpt --kill_at_step 520\n";

// Fills in the options; empty if all is well, else what is wrong.
std::string Parse(int argc, char** argv, TrainConfig& config, LocalOptions& local) {
  const auto integer = [](auto& to) {
    return [&to](const std::string& value) {
      char* end = nullptr;
      to = static_cast<std::decay_t<decltype(to)>>(strtoll(value.c_str(), &end, 10));
      return !value.empty() && *end == '\0' && value[0] != '-';
    };
  };
  const auto real = [](double& to) {
    return [&to](const std::string& value) {
      char* end = nullptr;
      to = strtod(value.c_str(), &end);
      return !value.empty() && *end == '\0' && to >= 0;
    };
  };
  const auto text = [](std::string& to) {
    return [&to](const std::string& value) {
      to = value;
      return true;
    };
  };
  const std::map<std::string, std::function<bool(const std::string&)>> options = {
      {"--ranks", integer(local.ranks)},
      {"--max_restarts", integer(local.max_restarts)},
      {"--kill_at_step", integer(local.kill_at_step)},
      {"--steps", integer(config.steps)},
      {"--batch", integer(config.batch)},
      {"--layers", integer(config.layers)},
      {"--heads", integer(config.heads)},
      {"--width", integer(config.width)},
      {"--context", integer(config.context)},
      {"--seed", integer(config.seed)},
      {"--warm_up", integer(config.warm_up)},
      {"--checkpoint_every", integer(config.checkpoint_every)},
      {"--sample_bytes", integer(config.sample_bytes)},
      {"--learning_rate", real(config.learning_rate)},
      {"--temperature", real(config.temperature)},
      {"--text", text(config.text)},
      {"--checkpoints", text(config.checkpoints)},
  };
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    std::string value;
    const size_t equals = name.find('=');
    if (equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    } else if (i + 1 < argc) {
      value = argv[++i];
    }
    const auto option = options.find(name);
    if (option == options.end()) return "unknown option " + name;
    if (!option->second(value)) return name + ": \"" + value + "\" is not a number it can take";
  }
  return local.ranks < 1 ? "--ranks must be at least 1" : "";
}

void Print(const Progress& progress) {
  if (!progress.note.empty()) {
    printf("%s\n", progress.note.c_str());
  } else {
    printf("step %5lld/%lld  loss %.3f  %6.0f tokens/s\n", static_cast<long long>(progress.step),
           static_cast<long long>(progress.steps), progress.loss, progress.tokens_per_second);
  }
  fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--help") {
    fputs(kHelp, stdout);
    return 0;
  }
  TrainConfig config;
  LocalOptions local;
  if (const std::string wrong = Parse(argc, argv, config, local); !wrong.empty()) {
    fprintf(stderr, "train_gpt_local: %s\n%s", wrong.c_str(), kHelp);
    return 2;
  }
  const auto reports = train_gpt::TrainLocally(config, local, Print);
  if (!reports.ok()) {
    fprintf(stderr, "train_gpt_local: %s\n", std::string(reports.status().message()).c_str());
    return 1;
  }
  const RankReport& first = reports->front();
  printf("\n%s\n\n", first.sample.c_str());
  printf("%lld parameters, %d ranks, generation %d: steps %lld to %lld in %.1f s, %.0f tokens/s\n",
         static_cast<long long>(first.parameters), first.size, first.generation,
         static_cast<long long>(first.first_step),
         static_cast<long long>(first.first_step + first.steps_done), first.seconds,
         first.tokens_per_second);
  printf("loss %.3f nats per byte, %.3f on text it was not trained on\n", first.last_loss,
         first.held_out_loss);
  return 0;
}
