// train_gpt: data-parallel training of a small byte-level GPT on a muster cluster. Each rank wants
// an L4 on a spot node, else an on-demand one; when a node dies, the group starts again on what is
// left, from the last checkpoint.
//   MUSTER_ADDRESS=127.0.0.1:6379 train_gpt --ranks 2 --checkpoints /tmp/gpt

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "examples/train_gpt/history.h"
#include "examples/train_gpt/options.h"
#include "examples/train_gpt/trainer.h"
#include "muster/muster.h"

namespace train_gpt {

MUSTER_FIELDS(TrainConfig, text, checkpoints, steps, checkpoint_every, warm_up, learning_rate,
              weight_decay, gradient_norm_max, seed, batch, layers, heads, width, context,
              sample_bytes, temperature, report_every_s);

}  // namespace train_gpt

namespace {

using train_gpt::HistoryEvent;
using train_gpt::Progress;
using train_gpt::RankReport;
using train_gpt::TrainConfig;

constexpr char kHelp[] =
    "Trains a small byte-level GPT on the ranks of a muster cluster: each on an L4 on a spot node, "
    "else on demand.\n"
    "  --checkpoints DIR (needed; every node must reach it)  --text FILE (the Bible of Debian's "
    "bible-kjv)\n"
    "  --ranks N (2)  --max_restarts N (3)  --steps N (1000)  --batch N (24)  --layers N (4)  "
    "--heads N (4)\n"
    "  --width N (128)  --context N (64)  --learning_rate X (2e-3)  --warm_up N (100)  --seed N "
    "(1)\n"
    "  --checkpoint_every N (50)  --temperature X (0.7)  --sample_bytes N (400)\n"
    "  --expect_loss_below X, --expect_restarts N: end with 1 where the run did not do so (0: "
    "expect nothing)\n"
    "Example: train_gpt --muster-address 127.0.0.1:6379 --checkpoints /tmp/gpt\n";

double Now() { return absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()); }

// One rank. What it prints comes out at the driver's terminal.
RankReport TrainRank(TrainConfig config) {
  const muster::TaskInfo task = muster::CurrentTask();
  const auto group = muster::CurrentGroup();
  HistoryEvent event;
  event.generation = group.generation;
  event.rank = group.rank;
  event.node = task.node;
  event.choice = task.choice;
  event.pid = getpid();
  const auto record = [&](const std::string& what, int64_t step, double loss) {
    event.what = what;
    event.time_s = Now();
    event.step = step;
    event.loss = loss;
    const absl::Status written = train_gpt::AppendHistory(config.checkpoints, event);
    if (!written.ok()) fprintf(stderr, "%s\n", std::string(written.message()).c_str());
  };
  record("start", 0, 0);
  printf("generation %d: rank %d of %d by choice %d (%s)\n", group.generation, group.rank,
         group.size, task.choice + 1, task.choice == 0 ? "L4 on spot" : "L4 on demand");
  bool first = true;
  const auto progress = [&](const Progress& now) {
    if (first) record("resume", now.note.empty() ? 0 : now.step, 0);
    first = false;
    if (!now.note.empty()) {
      printf("%s\n", now.note.c_str());
      return;
    }
    printf("step %5d/%d  loss %.3f  %6.0f tokens/s\n", static_cast<int>(now.step),
           static_cast<int>(now.steps), now.loss, now.tokens_per_second);
    record("step", now.step, now.loss);
  };
  absl::StatusOr<RankReport> report = train_gpt::Train(config, group.collectives, progress);
  if (!report.ok()) throw std::runtime_error(std::string(report.status().message()));
  report->node = task.node;
  report->choice = task.choice;
  report->generation = group.generation;
  return *report;
}

void PrintSummary(const std::vector<RankReport>& reports,
                  const std::vector<train_gpt::Generation>& generations) {
  const RankReport& first = reports.front();
  printf("\n%s\n\n", first.sample.c_str());
  for (const train_gpt::Generation& generation : generations) {
    printf("generation %d: steps %d to %d", generation.number,
           static_cast<int>(generation.first_step), static_cast<int>(generation.last_step));
    for (const HistoryEvent& rank : generation.ranks) {
      printf("; rank %d on %s by choice %d (%s)", rank.rank, rank.node.c_str(), rank.choice + 1,
             rank.choice == 0 ? "L4 on spot" : "L4 on demand");
    }
    printf("\n");
    if (&generation != &generations.back()) {
      printf("  ended by a death: %.1f s lost until step %d was done again\n",
             generation.seconds_lost, static_cast<int>(generation.last_step));
    }
  }
  printf("%d parameters; %.3f nats per byte at the end, %.3f on text it was not trained on\n",
         static_cast<int>(first.parameters), first.last_loss, first.held_out_loss);
}

}  // namespace

int main(int argc, char** argv) {
  muster::Init(argc, argv);
  TrainConfig config;
  int ranks = 2;
  int max_restarts = 3;
  int expect_restarts = 0;
  double expect_loss_below = 0;
  train_gpt::Options options = train_gpt::TrainOptions(config);
  options["--ranks"] = train_gpt::ReadInteger(ranks);
  options["--max_restarts"] = train_gpt::ReadInteger(max_restarts);
  options["--expect_restarts"] = train_gpt::ReadInteger(expect_restarts);
  options["--expect_loss_below"] = train_gpt::ReadReal(expect_loss_below);
  if (argc == 2 && std::string(argv[1]) == "--help") {
    fputs(kHelp, stdout);
    return 0;
  }
  std::string wrong = train_gpt::ParseOptions(argc, argv, options);
  if (wrong.empty() && config.checkpoints.empty()) wrong = "--checkpoints DIR is needed";
  if (!wrong.empty()) {
    fprintf(stderr, "train_gpt: %s\n%s", wrong.c_str(), kHelp);
    return 2;
  }
  std::error_code error;
  config.checkpoints = std::filesystem::absolute(config.checkpoints).string();
  std::filesystem::create_directories(config.checkpoints, error);
  std::filesystem::remove(config.checkpoints + "/history.txt", error);

  const muster::TaskOptions on_l4 = {
      .resources = {.cpus = 1, .gpus = 1},
      .label_selector = {{"ray.io/accelerator-type", "L4"}, {"ray.io/market-type", "spot"}},
      .fallback_strategy = {{.label_selector = {{"ray.io/accelerator-type", "L4"},
                                                {"ray.io/market-type", "on-demand"}}}},
  };
  const auto run =
      muster::Group<TrainRank>({.ranks = ranks, .per_rank = on_l4, .max_restarts = max_restarts})
          .Remote(config);
  const absl::StatusOr<std::vector<RankReport>> reports = muster::Get(run);
  if (!reports.ok()) {
    fprintf(stderr, "train_gpt: %s\n", std::string(reports.status().message()).c_str());
    return 1;
  }
  const absl::StatusOr<std::vector<HistoryEvent>> history =
      train_gpt::ReadHistory(config.checkpoints);
  if (!history.ok()) {
    fprintf(stderr, "train_gpt: %s\n", std::string(history.status().message()).c_str());
    return 1;
  }
  const std::vector<train_gpt::Generation> generations = train_gpt::Generations(*history);
  muster::Shutdown();  // The last lines of the ranks come before the summary.
  PrintSummary(*reports, generations);

  bool as_expected = true;
  const RankReport& first = reports->front();
  if (static_cast<int>(generations.size()) < expect_restarts + 1) {
    printf("NOT as expected: %d restarts, fewer than %d\n",
           static_cast<int>(generations.size()) - 1, expect_restarts);
    as_expected = false;
  }
  if (expect_restarts > 0 && as_expected) {
    std::set<int> before;
    for (const HistoryEvent& rank : generations.front().ranks) before.insert(rank.choice);
    const bool moved = before.contains(0) &&
                       generations.back().ranks.size() == static_cast<size_t>(ranks) &&
                       generations.back().ranks.front().choice == 1;
    if (!moved || first.first_step == 0) {
      printf(
          "NOT as expected: the lost rank did not come back on the fallback from a checkpoint\n");
      as_expected = false;
    }
  }
  if (expect_loss_below > 0 && !(first.held_out_loss < expect_loss_below)) {
    printf("NOT as expected: a loss of %.3f is not below %.3f\n", first.held_out_loss,
           expect_loss_below);
    as_expected = false;
  }
  return as_expected ? 0 : 1;
}
