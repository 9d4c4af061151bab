// train_gpt_local: the example's training on this machine alone, ranks being processes.
//   train_gpt_local --ranks 2 --steps 1000 --checkpoints /tmp/gpt

#include <cstdio>
#include <string>

#include "examples/train_gpt/local.h"
#include "examples/train_gpt/options.h"
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
  train_gpt::Options options = train_gpt::TrainOptions(config);
  options["--ranks"] = train_gpt::ReadInteger(local.ranks);
  options["--max_restarts"] = train_gpt::ReadInteger(local.max_restarts);
  options["--kill_at_step"] = train_gpt::ReadInteger(local.kill_at_step);
  std::string wrong = train_gpt::ParseOptions(argc, argv, options);
  if (wrong.empty() && local.ranks < 1) wrong = "--ranks must be at least 1";
  if (!wrong.empty()) {
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
