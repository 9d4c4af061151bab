#include "examples/train_gpt/local.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <sstream>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "muster/collective.h"

namespace train_gpt {
namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitAborted = 3;  // Another rank died: no fault of this one.

std::string ToText(const RankReport& report) {
  std::ostringstream text;
  text.precision(17);
  text << report.held_out_loss << ' ' << report.last_loss << ' ' << report.first_step << ' '
       << report.steps_done << ' ' << report.parameters << ' ' << report.seconds << ' '
       << report.tokens_per_second << ' ' << report.rank << ' ' << report.size << ' '
       << report.generation << ' ' << report.pid << '\n'
       << report.sample;
  return text.str();
}

RankReport ReportOf(const std::string& text) {
  RankReport report;
  std::istringstream in(text);
  in >> report.held_out_loss >> report.last_loss >> report.first_step >> report.steps_done >>
      report.parameters >> report.seconds >> report.tokens_per_second >> report.rank >>
      report.size >> report.generation >> report.pid;
  report.sample = text.substr(text.find('\n') + 1);
  report.node = "localhost";
  return report;
}

// Progress goes to the parent as lines: "step steps loss tokens_per_second note".
void WriteProgress(int pipe, const Progress& progress) {
  std::string note = progress.note;
  for (char& c : note) c = c == '\n' ? ';' : c;
  dprintf(pipe, "%lld %lld %.9g %.9g %s\n", static_cast<long long>(progress.step),
          static_cast<long long>(progress.steps), progress.loss, progress.tokens_per_second,
          note.c_str());
}

Progress ProgressOf(const std::string& line) {
  Progress progress;
  std::istringstream in(line);
  in >> progress.step >> progress.steps >> progress.loss >> progress.tokens_per_second;
  in.get();
  std::getline(in, progress.note);
  return progress;
}

// One generation: its processes and the directory they meet in.
class Generation {
 public:
  Generation(const TrainConfig& config, const LocalOptions& options, int number)
      : config_(config), options_(options), number_(number) {}
  ~Generation() {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  absl::Status Start() {
    std::string directory = (std::filesystem::temp_directory_path() / "train_gpt_XXXXXX").string();
    if (mkdtemp(directory.data()) == nullptr) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", directory));
    }
    directory_ = directory;
    absl::StatusOr<std::unique_ptr<muster::Store>> store = muster::OpenFileStore(directory_);
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    fflush(nullptr);  // Or each child would print what is still buffered here.
    int ends[2];
    if (pipe(ends) != 0) return absl::ErrnoToStatus(errno, "cannot make a pipe");
    pids_.reserve(static_cast<size_t>(options_.ranks));
    const pid_t parent = getpid();
    for (int rank = 0; rank < options_.ranks; ++rank) {
      const pid_t pid = fork();
      if (pid < 0) return absl::ErrnoToStatus(errno, "cannot fork");
      if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(kExitFailed);
        close(ends[0]);
        const int code = RunRank(rank, ends[1]);
        fflush(nullptr);
        _exit(code);
      }
      pids_.push_back(pid);
    }
    close(ends[1]);
    progress_ = fdopen(ends[0], "r");
    return absl::OkStatus();
  }

  // Passes on what rank 0 reports until every rank has ended.
  absl::Status Await(const std::function<void(const Progress&)>& progress) {
    char* line = nullptr;
    size_t capacity = 0;
    bool killed = number_ > 0 || options_.kill_at_step == 0;
    ssize_t length = 0;
    while ((length = getline(&line, &capacity, progress_)) > 0) {
      const Progress now = ProgressOf(std::string(line, static_cast<size_t>(length) - 1));
      if (progress) progress(now);
      if (!killed && now.step >= options_.kill_at_step) {
        killed = true;
        kill(pids_.back(), SIGKILL);
      }
    }
    free(line);
    fclose(progress_);
    absl::Status result = absl::OkStatus();
    for (size_t rank = 0; rank < pids_.size(); ++rank) {
      int status = 0;
      waitpid(pids_[rank], &status, 0);
      const absl::Status ended = Verdict(static_cast<int>(rank), status);
      // A rank's own failure says more than that the others were ended by it.
      if (result.ok() || (absl::IsAborted(result) && !absl::IsAborted(ended) && !ended.ok())) {
        result = ended;
      }
    }
    pids_.clear();
    return result;
  }

  std::vector<RankReport> Reports() {
    std::vector<RankReport> reports;
    reports.reserve(static_cast<size_t>(options_.ranks));
    for (int rank = 0; rank < options_.ranks; ++rank) {
      reports.push_back(
          ReportOf(store_->Get(absl::StrCat("report/", rank), absl::ZeroDuration()).value_or("")));
    }
    return reports;
  }

 private:
  int RunRank(int rank, int pipe) {
    absl::StatusOr<muster::Collectives> collectives =
        muster::ConnectCollectives({.rank = rank, .size = options_.ranks, .store = store_});
    absl::StatusOr<RankReport> report;
    if (collectives.ok()) {
      report = Train(config_, *collectives,
                     [pipe](const Progress& progress) { WriteProgress(pipe, progress); });
    } else {
      report = collectives.status();
    }
    if (!report.ok()) {
      store_->Set(absl::StrCat("error/", rank), std::string(report.status().message()))
          .IgnoreError();
      return absl::IsAborted(report.status()) ? kExitAborted : kExitFailed;
    }
    report->generation = number_;
    return store_->Set(absl::StrCat("report/", rank), ToText(*report)).ok() ? kExitDone
                                                                            : kExitFailed;
  }

  absl::Status Verdict(int rank, int status) {
    if (WIFSIGNALED(status)) {
      return absl::AbortedError(absl::StrCat("rank ", rank, " (pid ", pids_[rank],
                                             ") was killed by signal ", WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) == kExitDone) return absl::OkStatus();
    const std::string error =
        store_->Get(absl::StrCat("error/", rank), absl::ZeroDuration()).value_or("no reason given");
    if (WEXITSTATUS(status) == kExitAborted) return absl::AbortedError(error);
    return absl::UnknownError(absl::StrCat("rank ", rank, ": ", error));
  }

  const TrainConfig& config_;
  const LocalOptions& options_;
  const int number_;
  std::string directory_;
  std::shared_ptr<muster::Store> store_;
  std::vector<pid_t> pids_;
  FILE* progress_ = nullptr;
};

}  // namespace

absl::StatusOr<std::vector<RankReport>> TrainLocally(
    const TrainConfig& config, const LocalOptions& options,
    const std::function<void(const Progress&)>& progress) {
  for (int number = 0;; ++number) {
    Generation generation(config, options, number);
    if (absl::Status status = generation.Start(); !status.ok()) return status;
    const absl::Status ended = generation.Await(progress);
    if (ended.ok()) return generation.Reports();
    if (!absl::IsAborted(ended) || number == options.max_restarts) return ended;
    if (progress) {
      progress({.note = absl::StrCat(ended.message(), "; starting generation ", number + 1)});
    }
  }
}

}  // namespace train_gpt
