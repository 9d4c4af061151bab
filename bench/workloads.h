// The workloads that muster and its peers are compared by, written once over an Api, so that each
// system runs the same tasks in the same numbers. C++17 and the standard library only: it is also
// compiled against Ray's headers, with the old libstdc++ ABI.
//
// An Api has, all static:
//   using Ref;                              // To an int.
//   Ref Start();                            // Submits a task that returns 0 at once.
//   Ref StartHold(const std::string& path); // Submits a task that waits until the file is there.
//   void Get(const Ref&), GetAll(const std::vector<Ref>&);  // Waits; ends the program on an error.
//   kHasFallbacks, Ref StartWithFallbacks();  // As Start(); of three choices only the last can be
//   met.
//
// Output: a line of JSON per measurement on stdout, as {"name": "sync p50", "value": 51.2, "unit":
// "us",
//   "better": "lower", "samples": 2000, "note": ""}. bench/harness/programs.py reads it.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace muster::bench {

struct Flags {
  std::string workloads;  // Any of sync, async, submitters, fallbacks, queued; with commas.
  std::string temp_dir;   // For `queued`: an existing directory.
  std::string code;       // Ray: the shared library with the tasks.
  int cpus = 2;           // Ray: how many the cluster has.
  int batch = 1000;
  int sync_tasks = 2000;
  int queued_tasks = 100'000;
  int drain = 0;            // For `queued`: 1 also waits until all have run.
  double seconds = 2;       // A throughput is measured at least this long.
  double seconds_max = 60;  // A latency, and the filling of a queue, at most this long.
};

// Fills in `flags` from --name=value; ends the program with 2 on anything else.
inline Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  const std::map<std::string, std::string*> texts = {
      {"workloads", &flags.workloads}, {"temp-dir", &flags.temp_dir}, {"code", &flags.code}};
  const std::map<std::string, int*> integers = {{"cpus", &flags.cpus},
                                                {"batch", &flags.batch},
                                                {"sync-tasks", &flags.sync_tasks},
                                                {"queued-tasks", &flags.queued_tasks},
                                                {"drain", &flags.drain}};
  const std::map<std::string, double*> numbers = {{"seconds", &flags.seconds},
                                                  {"seconds-max", &flags.seconds_max}};
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const size_t equals = std::min(text.find('='), text.size());
    const std::string name = text.compare(0, 2, "--") == 0 ? text.substr(2, equals - 2) : "";
    const std::string value = equals < text.size() ? text.substr(equals + 1) : "";
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    const bool is_number = !value.empty() && *end == '\0' && number >= 0 && number <= 1e9;
    if (texts.count(name) > 0) {
      *texts.at(name) = value;
    } else if (integers.count(name) > 0 && is_number) {
      *integers.at(name) = static_cast<int>(number);
    } else if (numbers.count(name) > 0 && is_number) {
      *numbers.at(name) = number;
    } else {
      std::fprintf(stderr,
                   "%s: %s is no flag with a value it takes, as in --workloads=sync,async\n",
                   argv[0], text.c_str());
      std::_Exit(2);
    }
  }
  flags.batch = std::max(flags.batch, 1);
  flags.sync_tasks = std::max(flags.sync_tasks, 1);
  return flags;
}

// Seconds.
class Stopwatch {
 public:
  double Seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

struct Measurement {
  const char* name = "";
  double value = 0;
  const char* unit = "";
  const char* better = "";  // "lower" or "higher".
  size_t samples = 1;
  std::string note;  // Plain text without quotes.
};

inline void Report(const Measurement& m) {
  std::printf(
      "{\"name\": \"%s\", \"value\": %.3f, \"unit\": \"%s\", \"better\": \"%s\", \"samples\": %zu, "
      "\"note\": \"%s\"}\n",
      m.name, m.value, m.unit, m.better, m.samples, m.note.c_str());
  std::fflush(stdout);
}

// REQUIRES: values is not empty; fraction in [0, 1].
inline double Percentile(std::vector<double> values, double fraction) {
  std::sort(values.begin(), values.end());
  const auto index = static_cast<size_t>(fraction * static_cast<double>(values.size()));
  return values[std::min(values.size() - 1, index)];
}

inline double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total = 0;
  double resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// What the task of StartHold() runs.
inline int HoldUntilFileIsThere(const std::string& path) {
  while (access(path.c_str(), F_OK) != 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return 0;
}

template <typename Api>
class Workloads {
 public:
  explicit Workloads(Flags flags) : flags_(std::move(flags)) {}

  // Runs flags.workloads in order. False: one of them is unknown.
  bool Run() const {
    std::istringstream names(flags_.workloads);
    for (std::string name; std::getline(names, name, ',');) {
      if (name == "sync") {
        Sync();
      } else if (name == "async") {
        Batches("async", Api::Start);
      } else if (name == "fallbacks" && Api::kHasFallbacks) {
        Batches("async, two fallbacks", Api::StartWithFallbacks);
      } else if (name == "submitters") {
        Submitters();
      } else if (name == "queued") {
        Queued();
      } else {
        std::fprintf(stderr, "unknown workload \"%s\"\n", name.c_str());
        return false;
      }
    }
    return true;
  }

 private:
  using Ref = typename Api::Ref;
  using Starter = Ref (*)();

  // Latency of one task at a time.
  void Sync() const {
    for (int i = 0; i < 200; ++i) Api::Get(Api::Start());
    std::vector<double> microseconds;
    const Stopwatch all;
    do {
      const Stopwatch one;
      Api::Get(Api::Start());
      microseconds.push_back(one.Seconds() * 1e6);
    } while (microseconds.size() < static_cast<size_t>(flags_.sync_tasks) &&
             all.Seconds() < flags_.seconds_max);
    Report({"sync p50", Percentile(microseconds, 0.50), "us", "lower", microseconds.size(), ""});
    Report({"sync p99", Percentile(microseconds, 0.99), "us", "lower", microseconds.size(), ""});
  }

  // Tasks per second of one batch, all submitted and then all fetched.
  double Batch(Starter start) const {
    const Stopwatch watch;
    std::vector<Ref> refs;
    refs.reserve(flags_.batch);
    for (int i = 0; i < flags_.batch; ++i) refs.push_back(start());
    Api::GetAll(refs);
    return flags_.batch / watch.Seconds();
  }

  void Batches(const char* name, Starter start) const {
    Batch(start);
    std::vector<double> rates;
    const Stopwatch watch;
    while (rates.size() < 3 || watch.Seconds() < flags_.seconds) rates.push_back(Batch(start));
    Report({name, Percentile(rates, 0.50), "tasks/s", "higher", rates.size(), BatchNote()});
  }

  void Submitters() const {
    Batch(Api::Start);
    std::atomic<size_t> batches{0};
    const Stopwatch watch;
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([this, &batches, &watch] {
        do {
          Batch(Api::Start);
          ++batches;
        } while (watch.Seconds() < flags_.seconds);
      });
    }
    for (std::thread& thread : threads) thread.join();
    const double tasks = static_cast<double>(batches) * flags_.batch;
    Report({"async, four submitters", tasks / watch.Seconds(), "tasks/s", "higher", batches,
            BatchNote()});
  }

  // How fast, and with how much of the driver's memory, tasks queue up while every CPU is held by
  // others.
  void Queued() const {
    const std::string gate = flags_.temp_dir + "/gate";
    std::vector<Ref> holders;
    for (unsigned i = 0; i < std::max(1U, std::thread::hardware_concurrency()); ++i) {
      holders.push_back(Api::StartHold(gate));
    }
    const double bytes_before = ResidentBytes();
    const auto wanted = static_cast<size_t>(std::max(flags_.queued_tasks, 1));
    std::vector<Ref> refs;
    const Stopwatch watch;
    do {
      for (int i = 0; i < 1000; ++i) refs.push_back(Api::Start());
    } while (refs.size() < wanted && watch.Seconds() < flags_.seconds_max);
    const double seconds = watch.Seconds();
    const double bytes = ResidentBytes() - bytes_before;
    const auto count = static_cast<double>(refs.size());
    const std::string note =
        std::to_string(refs.size()) +
        (refs.size() < wanted ? " tasks, no more in the time given" : " tasks in one queue");
    Report({"queueing", count / seconds, "tasks/s", "higher", refs.size(), note});
    Report({"memory per queued task", bytes / count, "bytes", "lower", refs.size(),
            "resident, of the driver; " + note});

    std::ofstream(gate).flush();
    const Stopwatch draining;
    Api::GetAll(holders);
    if (flags_.drain != 0) {
      Api::GetAll(refs);
      Report({"draining the queue", count / draining.Seconds(), "tasks/s", "higher", refs.size(),
              note});
    }
  }

  std::string BatchNote() const { return "batches of " + std::to_string(flags_.batch); }

  const Flags flags_;
};

}  // namespace muster::bench
