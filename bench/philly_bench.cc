// Replays a trace of jobs through the real scheduler in simulated time: what its ordering, backfill
// and time slices do to queueing delays, utilisation and fairness.
//
//   philly_bench [--data FILE] [--load 0.95] [--policy NAME|all] [--jobs N]
//
// FILE is CSV with timestamp (or seconds), duration, num_gpus, gpu_time, cluster, as the Philly
// traces are; without it a small set is made up. One line of JSON for each policy.
//
// The cluster: nodes of 8 GPUs, as many as make the work that arrives in the window between the
// first and the last arrival (of the trace less 0.1 % of its jobs at either end) `load` of what
// they could do in that window. A job of more than 8 GPUs is a group of equal bundles, of 8 where
// that comes out even, else of 4. Virtual clusters are tenants of weight 1.
//
// Reported:
//   hints        what backfill is told: the duration, rounded up as people do, to 1, 2, 3, 5, 10,
//   15,
//                20, 30, 45 minutes, 1, 1.5, 2, 3, 4, 6, 8, 12, 18 hours, 1, 2, 3, 5, 7, 14, 30, 60
//                days
//   delay        from arrival to end, less the time that the job needs on its own: its waiting, and
//                what a recall cost it. Seconds; mean, p50, p95, p99 over all jobs
//   utilisation  GPU time held over GPU time there was, in the window
//   gap          of one virtual cluster: the part of its fair entitlement that it did not get. At
//                each moment the GPUs are divided evenly between the virtual clusters that want
//                some, none getting more than it wants (what its jobs that run or wait need), what
//                is left divided again: that is its entitlement. The gap is the integral over the
//                window of (entitlement - held), where positive, over that of the entitlement.
//                The largest, the mean, and each
//   recalls      a recalled job saves its state, leaves at once, waits again, and runs
//                kRecallCost of its work anew
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <queue>
#include <string>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "scheduler/base/chance.h"
#include "scheduler/base/check.h"
#include "scheduler/scheduler.h"

namespace muster::sched {
namespace {

constexpr int kGpusPerNode = 8;
constexpr absl::Duration kRecallCost = absl::Seconds(60);

struct Job {
  double arrival = 0;  // Seconds.
  double duration = 0;
  int gpus = 1;
  std::string tenant{};
};

// --- Traces ---

bool ParseTime(absl::string_view text, double& seconds) {
  if (absl::SimpleAtod(text, &seconds)) return true;
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%Y-%m-%d %H:%M:%S", text, absl::UTCTimeZone(), &time, &error)) return false;
  seconds = absl::ToDoubleSeconds(time - absl::UnixEpoch());
  return true;
}

bool ReadTrace(const std::string& path, std::vector<Job>& jobs) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) return false;
  std::map<std::string, size_t> column;
  for (const absl::string_view name : absl::StrSplit(line, ',')) {
    column.emplace(std::string(absl::StripAsciiWhitespace(name)), column.size());
  }
  for (const char* name : {"timestamp", "duration", "num_gpus", "cluster"}) {
    if (column.count(name) > 0) continue;
    std::cerr << "philly_bench: " << path << " has no column " << name << "\n";
    return false;
  }
  while (std::getline(file, line)) {
    const std::vector<absl::string_view> fields = absl::StrSplit(line, ',');
    Job job;
    const bool good = fields.size() >= column.size() &&
                      ParseTime(fields[column["timestamp"]], job.arrival) &&
                      absl::SimpleAtod(fields[column["duration"]], &job.duration) &&
                      absl::SimpleAtoi(fields[column["num_gpus"]], &job.gpus);
    if (!good || job.duration <= 0 || job.gpus < 1) continue;
    job.tenant = std::string(absl::StripAsciiWhitespace(fields[column["cluster"]]));
    jobs.push_back(std::move(job));
  }
  return !jobs.empty();
}

// A few tenants, a few large, arrivals in bursts, durations over five orders of magnitude.
std::vector<Job> MadeUpTrace() {
  Chance chance(1);
  std::vector<Job> jobs;
  double now = 0;
  for (int burst = 0; burst < 400; ++burst) {
    now += -std::log(1 - chance.Unit()) * 1800;
    const int tenant = static_cast<int>(std::pow(chance.Unit(), 2.5) * 12);
    const int size = 1 + static_cast<int>(std::pow(chance.Unit(), 3) * 40);
    for (int i = 0; i < size; ++i) {
      Job job{.arrival = now + i, .tenant = absl::StrCat("vc", tenant)};
      job.duration = std::floor(60 * std::pow(10, 3.2 * std::pow(chance.Unit(), 2)));
      const double shape = chance.Unit();
      job.gpus = shape < 0.8 ? 1 : shape < 0.9 ? 4 : shape < 0.97 ? 8 : 16;
      jobs.push_back(std::move(job));
    }
  }
  return jobs;
}

// --- Policies ---

struct Policy {
  std::string name{};
  SharingConfig sharing{};
};

std::vector<Policy> Policies() {
  std::vector<Policy> policies;
  const auto add = [&](const std::string& name, Ordering ordering, Backfill backfill,
                       absl::Duration slice = absl::InfiniteDuration()) {
    SharingConfig sharing;
    sharing.ordering = ordering;
    sharing.backfill = backfill;
    sharing.time_slice = slice;
    policies.push_back({.name = name, .sharing = sharing});
  };
  add("fifo", Ordering::kFifo, Backfill::kNone);
  add("fifo-greedy", Ordering::kFifo, Backfill::kGreedy);
  add("fifo-easy", Ordering::kFifo, Backfill::kEasy);
  add("fifo-conservative", Ordering::kFifo, Backfill::kConservative);
  add("fair", Ordering::kFair, Backfill::kNone);
  add("fair-greedy", Ordering::kFair, Backfill::kGreedy);
  add("fair-easy", Ordering::kFair, Backfill::kEasy);
  add("fair-conservative", Ordering::kFair, Backfill::kConservative);
  add("fair-slice-1h", Ordering::kFair, Backfill::kGreedy, absl::Hours(1));
  return policies;
}

// --- The replay ---

absl::Duration HintFor(double seconds) {
  constexpr int kMinutes[] = {1,    2,    3,    5,    10,    15,    20,   30,  45,
                              60,   90,   120,  180,  240,   360,   480,  720, 1080,
                              1440, 2880, 4320, 7200, 10080, 20160, 43200};
  for (const int minutes : kMinutes) {
    if (seconds <= minutes * 60.0) return absl::Minutes(minutes);
  }
  return absl::Hours(24 * 60);
}

RequestSpec SpecOf(const Job& job, double remaining) {
  RequestSpec spec;
  spec.tenant = job.tenant;
  spec.expected_duration = HintFor(remaining);
  int per_bundle = job.gpus;
  if (job.gpus > kGpusPerNode) per_bundle = job.gpus % kGpusPerNode == 0 ? kGpusPerNode : 4;
  MUSTER_CHECK(job.gpus % per_bundle == 0);
  spec.bundles = job.gpus / per_bundle;
  spec.choices.push_back({.resources = {.gpus = per_bundle * Amount::kUnit}});
  return spec;
}

class Replay {
 public:
  Replay(const std::vector<Job>& jobs, int nodes, const Policy& policy)
      : jobs_(jobs), gpus_(nodes * kGpusPerNode), scheduler_(ConfigOf(policy)) {
    states_.resize(jobs.size());
    for (size_t i = 0; i < jobs.size(); ++i) {
      const auto [at, added] = tenant_of_.emplace(jobs[i].tenant, tenants_.size());
      if (added) tenants_.push_back({.name = jobs[i].tenant});
      states_[i].tenant = at->second;
      states_[i].remaining = jobs[i].duration;
    }
    for (int node = 1; node <= nodes; ++node) {
      NodeJoined join{.node = {static_cast<uint64_t>(node)}, .name = absl::StrCat("n", node)};
      join.total.gpu_devices = kGpusPerNode;
      Step(join);
    }
  }

  void Run() {
    window_begin_ = jobs_.front().arrival;
    window_end_ = jobs_.back().arrival;
    now_ = window_begin_;
    size_t next_job = 0;
    while (next_job < jobs_.size() || unfinished_ > 0) {
      double next = next_job < jobs_.size() ? jobs_[next_job].arrival : 1e300;
      while (!ends_.empty() && states_[ends_.top().second].run != ends_.top().run) ends_.pop();
      if (!ends_.empty()) next = std::min(next, ends_.top().at);
      const absl::Time tick = scheduler_.NextTick();
      const bool ticks = tick != absl::InfiniteFuture() && SecondsOf(tick) < next;
      if (ticks) next = SecondsOf(tick);
      Advance(next);
      if (ticks) {
        Step(Tick{});
      } else if (!ends_.empty() && ends_.top().at <= next) {
        const size_t job = ends_.top().second;
        ends_.pop();
        Finish(job);
      } else {
        Submit(next_job++);
      }
    }
  }

  std::string Report(const std::string& policy, double load, double wall_s) const {
    std::vector<double> delays;
    double sum = 0;
    for (size_t i = 0; i < jobs_.size(); ++i) {
      // Kept exact to a millisecond: times are doubles.
      const double delay = states_[i].ended - jobs_[i].arrival - jobs_[i].duration;
      delays.push_back(std::max(0.0, std::round(delay * 1000) / 1000));
      sum += delays.back();
    }
    std::sort(delays.begin(), delays.end());
    const auto quantile = [&](double q) {
      return delays[std::min(delays.size() - 1,
                             static_cast<size_t>(q * static_cast<double>(delays.size())))];
    };
    double worst = 0, gaps = 0;
    std::string each;
    for (const TenantState& tenant : tenants_) {
      const double gap = tenant.entitled > 0 ? tenant.missed / tenant.entitled : 0;
      worst = std::max(worst, gap);
      gaps += gap / static_cast<double>(tenants_.size());
      absl::StrAppend(&each, each.empty() ? "" : ",", "\"", tenant.name, "\":", Round(gap));
    }
    return absl::StrCat("{\"policy\":\"", policy, "\",\"load\":", load, ",\"jobs\":", jobs_.size(),
                        ",\"gpus\":", gpus_,
                        ",\"mean_s\":", Round(sum / static_cast<double>(delays.size())),
                        ",\"p50_s\":", Round(quantile(0.5)), ",\"p95_s\":", Round(quantile(0.95)),
                        ",\"p99_s\":", Round(quantile(0.99)),
                        ",\"utilisation\":", Round(used_ / (gpus_ * (window_end_ - window_begin_))),
                        ",\"gap_max\":", Round(worst), ",\"gap_mean\":", Round(gaps),
                        ",\"recalls\":", recalls_, ",\"events\":", events_,
                        ",\"us_per_event\":", Round(wall_s * 1e6 / static_cast<double>(events_)),
                        ",\"wall_s\":", Round(wall_s), ",\"gaps\":{", each, "}}");
  }

 private:
  struct State {
    size_t tenant = 0;
    double remaining = 0;
    double started = -1;
    double ended = 0;
    RequestId request{};
    int run = 0;  // Counts its runs: an end of an earlier one counts no more.
  };
  struct TenantState {
    std::string name{};
    int wants = 0;  // GPUs of what runs or waits.
    int holds = 0;
    double entitled = 0;
    double missed = 0;
  };
  struct End {
    double at = 0;
    size_t second = 0;
    int run = 0;
    bool operator>(const End& other) const {
      return at != other.at ? at > other.at : second > other.second;
    }
  };

  static SchedulerConfig ConfigOf(const Policy& policy) {
    SchedulerConfig config;
    config.sharing = policy.sharing;
    return config;
  }
  static std::string Round(double value) { return absl::StrCat(std::round(value * 1e4) / 1e4); }
  static double SecondsOf(absl::Time time) {
    return absl::ToDoubleSeconds(time - absl::UnixEpoch());
  }

  // Integrates what is held and due until `next`.
  void Advance(double next) {
    const double span = std::min(next, window_end_) - now_;
    if (span > 0) {
      int held = 0;
      for (const TenantState& tenant : tenants_) held += tenant.holds;
      used_ += held * span;
      order_.clear();
      for (TenantState& tenant : tenants_) {
        if (tenant.wants > 0) order_.push_back(&tenant);
      }
      std::sort(order_.begin(), order_.end(),
                [](const TenantState* a, const TenantState* b) { return a->wants < b->wants; });
      double left = gpus_;
      size_t others = order_.size();
      for (TenantState* tenant : order_) {
        const double due = std::min<double>(tenant->wants, left / static_cast<double>(others--));
        left -= due;
        tenant->entitled += due * span;
        tenant->missed += std::max(0.0, due - tenant->holds) * span;
      }
    }
    now_ = std::max(now_, next);
  }

  void Submit(size_t job) {
    ++unfinished_;
    tenants_[states_[job].tenant].wants += jobs_[job].gpus;
    Ask(job);
  }

  void Ask(size_t job) {
    states_[job].request = {next_request_++};
    job_of_.emplace(states_[job].request, job);
    Step(Requested{states_[job].request, SpecOf(jobs_[job], states_[job].remaining)});
  }

  void Finish(size_t job) {
    State& state = states_[job];
    state.ended = now_;
    state.run = -1;
    --unfinished_;
    tenants_[state.tenant].wants -= jobs_[job].gpus;
    Leave(job);
  }

  void Leave(size_t job) {
    State& state = states_[job];
    tenants_[state.tenant].holds -= jobs_[job].gpus;
    job_of_.erase(state.request);
    Step(RequestCancelled{state.request});  // All its bundles at once.
  }

  void Step(decltype(Event::what) what) {
    ++events_;
    std::vector<Action> actions;
    // Rounded up, so that nothing is early.
    const absl::Time at = absl::UnixEpoch() + absl::Ceil(absl::Seconds(now_), absl::Nanoseconds(1));
    last_ = std::max(last_, at);
    scheduler_.Step({.at = last_, .what = std::move(what)}, actions);
    std::vector<std::pair<size_t, RequestId>> recalled;
    for (const Action& action : actions) {
      if (const auto* grant = std::get_if<Grant>(&action)) {
        const size_t job = job_of_.at(grant->request);
        State& state = states_[job];
        state.started = now_;
        ends_.push({.at = now_ + state.remaining, .second = job, .run = ++state.run});
        tenants_[state.tenant].holds += jobs_[job].gpus;
      } else if (const auto* notice = std::get_if<Notice>(&action)) {
        const auto job = job_of_.find(notice->request);
        if (job == job_of_.end()) continue;  // It is leaving at this moment.
        if (told_.insert(notice->request).second) {
          recalled.emplace_back(job->second, notice->request);
        }
      } else if (const auto* stays = std::get_if<NoticeWithdrawn>(&action)) {
        told_.erase(stays->request);  // Another that has left was enough.
      } else {
        std::cerr << "philly_bench: unexpected: " << ToString(action) << "\n";
        std::exit(1);
      }
    }
    for (const auto& [job, request] : recalled) {
      State& state = states_[job];
      const bool told = told_.erase(request) > 0;
      if (!told || state.request != request) continue;  // It may stay, or has left already.
      const double cost = absl::ToDoubleSeconds(kRecallCost);
      state.remaining = std::max(0.001, state.remaining - (now_ - state.started)) + cost;
      ++state.run;
      ++recalls_;
      Leave(job);
      Ask(job);
    }
  }

  const std::vector<Job>& jobs_;
  const int gpus_;
  Scheduler scheduler_;
  std::vector<State> states_;
  std::vector<TenantState> tenants_;
  std::vector<TenantState*> order_;
  std::map<std::string, size_t> tenant_of_;
  absl::flat_hash_map<RequestId, size_t> job_of_;
  absl::btree_set<RequestId> told_;  // To leave, and still there.
  std::priority_queue<End, std::vector<End>, std::greater<End>> ends_;
  uint64_t next_request_ = 1;
  double now_ = 0, window_begin_ = 0, window_end_ = 0, used_ = 0;
  absl::Time last_ = absl::UnixEpoch();
  int64_t unfinished_ = 0, recalls_ = 0, events_ = 0;
};

int NodesFor(const std::vector<Job>& jobs, double load) {
  double work = 0;
  int largest = 1;
  for (const Job& job : jobs) {
    work += job.duration * job.gpus;
    largest = std::max(largest, job.gpus);
  }
  const double window = jobs.back().arrival - jobs.front().arrival;
  const int nodes = static_cast<int>(std::ceil(work / window / load / kGpusPerNode));
  return std::max(nodes, (largest + kGpusPerNode - 1) / kGpusPerNode);
}

int Main(int argc, char** argv) {
  std::string data, wanted = "all";
  double load = 0.95;
  int most = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--data") data = argv[i + 1];
    if (flag == "--policy") wanted = argv[i + 1];
    if (flag == "--load" && !absl::SimpleAtod(argv[i + 1], &load)) return 2;
    if (flag == "--jobs" && !absl::SimpleAtoi(argv[i + 1], &most)) return 2;
  }
  if (argc % 2 == 0 || load <= 0) {
    std::cerr << "philly_bench [--data FILE] [--load 0.95] [--policy NAME|all] [--jobs N]\n";
    return 2;
  }
  std::vector<Job> jobs;
  if (data.empty()) {
    jobs = MadeUpTrace();
  } else if (!ReadTrace(data, jobs)) {
    std::cerr << "philly_bench: no jobs in " << data << "\n";
    return 1;
  }
  std::stable_sort(jobs.begin(), jobs.end(),
                   [](const Job& a, const Job& b) { return a.arrival < b.arrival; });
  const size_t ends = jobs.size() / 1000;
  jobs = std::vector<Job>(jobs.begin() + static_cast<int64_t>(ends),
                          jobs.end() - static_cast<int64_t>(ends));
  if (most > 0 && static_cast<size_t>(most) < jobs.size()) {  // From the middle.
    const size_t first = (jobs.size() - static_cast<size_t>(most)) / 2;
    jobs = std::vector<Job>(jobs.begin() + static_cast<int64_t>(first),
                            jobs.begin() + static_cast<int64_t>(first) + most);
  }
  const int nodes = NodesFor(jobs, load);
  bool any = false;
  for (const Policy& policy : Policies()) {
    if (wanted != "all" && wanted != policy.name) continue;
    any = true;
    const auto begin = std::chrono::steady_clock::now();
    Replay replay(jobs, nodes, policy);
    replay.Run();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
    std::cout << replay.Report(policy.name, load, wall.count()) << std::endl;
  }
  if (!any) std::cerr << "philly_bench: there is no policy " << wanted << "\n";
  return any ? 0 : 2;
}

}  // namespace
}  // namespace muster::sched

int main(int argc, char** argv) { return muster::sched::Main(argc, argv); }
