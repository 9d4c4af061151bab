#include "tests/sim/checker.h"

#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "runtime/client/parts.h"

namespace muster::sim {
namespace {

constexpr int64_t kUnit = 10000;
constexpr size_t kErrorsMax = 20;

}  // namespace

void Checker::Fail(std::string what) {
  if (errors_.size() < kErrorsMax) errors_.push_back(std::move(what));
}

void Checker::WorkerStarts(uint64_t worker, const v1::NodeResources& total) {
  workers_[worker].total = total;
}

void Checker::Holds(uint64_t worker, uint64_t executor,
                    const std::optional<v1::AssignLease>& lease) {
  Worker& known = workers_.at(worker);
  if (!lease.has_value()) {
    known.held.erase(executor);
    return;
  }
  known.held[executor] = Holding{*lease, false};
  CheckRoom(worker, known);
}

void Checker::Lends(uint64_t worker, uint64_t executor) {
  Worker& known = workers_.at(worker);
  const auto held = known.held.find(executor);
  if (held != known.held.end()) held->second.lent = true;
}

void Checker::CheckRoom(uint64_t number, const Worker& worker) {
  int64_t cpus = 0;
  int64_t memory = 0;
  absl::btree_map<uint32_t, int64_t> devices;
  absl::btree_map<std::string, int64_t> custom;
  for (const auto& [executor, holding] : worker.held) {
    const v1::Placement& placement = holding.lease.placement();
    // A lease that lent its CPUs once may take them back at any time.
    if (!holding.lent) cpus += placement.resources().cpus();
    memory += placement.resources().memory_bytes();
    int64_t shares = 0;
    for (const v1::DeviceShare& share : placement.devices()) {
      devices[share.device()] += share.amount();
      shares += share.amount();
    }
    if (shares != placement.resources().gpus()) Fail("a placement's devices are not what it needs");
    for (const v1::NamedAmount& amount : placement.resources().custom())
      custom[amount.name()] += amount.amount();
  }
  if (cpus > worker.total.cpus())
    Fail(absl::StrCat("worker ", number, " gives out ", cpus, "/10000 CPUs"));
  if (memory > worker.total.memory_bytes())
    Fail(absl::StrCat("worker ", number, " gives out ", memory, " bytes"));
  for (const auto& [device, amount] : devices) {
    if (device >= static_cast<uint32_t>(worker.total.gpus_size()) || amount > kUnit) {
      Fail(absl::StrCat("worker ", number, " gives out ", amount, "/10000 of GPU ", device));
    }
  }
  for (const v1::NamedAmount& total : worker.total.custom()) custom[total.name()] -= total.amount();
  for (const auto& [name, amount] : custom) {
    if (amount > 0) Fail(absl::StrCat("worker ", number, " gives out too much ", name));
  }
}

uint64_t Checker::Starts(const Run& run, const SimTask& task, uint32_t attempt) {
  const std::string what = absl::StrCat("task ", run.driver, "/", run.sequence);
  if (run.ranks != task.ranks)
    Fail(absl::StrCat(what, " is started as one of ", run.ranks, " ranks"));
  if (task.max_retries >= 0 && attempt > static_cast<uint32_t>(task.max_retries) &&
      task.ranks == 0) {
    Fail(absl::StrCat(what, " gets attempt ", attempt, " of ", task.max_retries));
  }
  if (run.ranks > 0 &&
      !rank_starts_.insert(absl::StrCat(what, " generation ", run.generation, " rank ", run.rank))
           .second) {
    Fail(absl::StrCat(what, ": rank ", run.rank, " starts twice in generation ", run.generation));
  }
  runs_.push_back(run);
  return runs_.size() - 1;
}

Run* Checker::FindRun(const std::string& value) {
  uint64_t number = 0;
  return absl::SimpleAtoi(value, &number) && number < runs_.size() ? &runs_[number] : nullptr;
}

void Checker::Arrives(const std::string& value) {
  if (Run* const run = FindRun(value); run != nullptr && !ended_[run->driver].contains(run->lease))
    run->arrived = true;
}

void Checker::HearsOfEnd(uint64_t driver, const v1::LeaseKey& lease) {
  ended_[driver].insert(lease.SerializeAsString());
}

void Checker::Completes(SimTask& task, const absl::Status& status,
                        const std::shared_ptr<const std::string>& value) {
  task.status = status;
  if (++task.completions != 1)
    Fail(absl::StrCat("task ", task.driver, "/", task.number, " completes again"));
  if (!status.ok()) return;
  if (value == nullptr) {
    Fail(absl::StrCat("task ", task.driver, "/", task.number, " has no result"));
    return;
  }
  std::optional<uint32_t> generation;
  if (task.ranks == 0) {
    CheckRun(task, *value, std::nullopt, generation);
    return;
  }
  const absl::StatusOr<std::vector<std::string_view>> parts = client::SplitParts(*value);
  if (!parts.ok() || parts->size() != task.ranks) {
    Fail(
        absl::StrCat("group ", task.driver, "/", task.number, " has not one result for each rank"));
    return;
  }
  for (uint32_t rank = 0; rank < task.ranks; ++rank)
    CheckRun(task, std::string((*parts)[rank]), rank, generation);
}

void Checker::CheckRun(const SimTask& task, const std::string& text, std::optional<uint32_t> rank,
                       std::optional<uint32_t>& generation) {
  const std::string what = absl::StrCat("task ", task.driver, "/", task.number);
  const Run* const found = FindRun(text);
  if (found == nullptr) {
    Fail(absl::StrCat(what, " has the result \"", text, "\""));
    return;
  }
  const Run& run = *found;
  if (run.driver != task.driver || run.sequence != task.number)
    Fail(absl::StrCat(what, " has another's result"));
  if (!run.finished) Fail(absl::StrCat(what, " has the result of a run that did not finish"));
  if (rank.has_value() && run.rank != *rank)
    Fail(absl::StrCat(what, " has rank ", run.rank, "'s result for rank ", *rank));
  if (generation.has_value() && run.generation != *generation)
    Fail(absl::StrCat(what, " mixes generations"));
  generation = run.generation;
  if (!run.arrived) Fail(absl::StrCat(what, " has a result from a lease that was over"));
}

}  // namespace muster::sim
