#include "examples/train_gpt/history.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace train_gpt {
namespace {

std::string FileIn(const std::string& directory) { return directory + "/history.txt"; }

}  // namespace

absl::Status AppendHistory(const std::string& directory, const HistoryEvent& event) {
  const std::string path = FileIn(directory);
  const std::string line = absl::StrFormat(
      "%s %.3f %d %d %s %d %d %d %.4f\n", event.what, event.time_s, event.generation, event.rank,
      event.node.empty() ? "-" : event.node, event.choice, event.pid, event.step, event.loss);
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const bool written =
      file >= 0 && write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const int error = errno;
  if (file >= 0) close(file);
  if (written) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", strerror(error)));
}

absl::StatusOr<std::vector<HistoryEvent>> ReadHistory(const std::string& directory) {
  std::vector<HistoryEvent> events;
  std::ifstream file(FileIn(directory));
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    HistoryEvent event;
    if (!(fields >> event.what >> event.time_s >> event.generation >> event.rank >> event.node >>
          event.choice >> event.pid >> event.step >> event.loss)) {
      return absl::DataLossError(absl::StrCat(FileIn(directory), ": no event: \"", line, "\""));
    }
    events.push_back(event);
  }
  std::stable_sort(events.begin(), events.end(), [](const HistoryEvent& a, const HistoryEvent& b) {
    return a.time_s < b.time_s;
  });
  return events;
}

std::vector<Generation> Generations(const std::vector<HistoryEvent>& history) {
  std::map<int, Generation> generations;
  std::map<int, double> last_seen;  // When the generation's last step was known.
  for (const HistoryEvent& event : history) {
    Generation& generation = generations[event.generation];
    generation.number = event.generation;
    if (event.what == "start") {
      generation.ranks.push_back(event);
    } else if (event.what == "resume") {
      generation.first_step = event.step;
    } else {
      generation.last_step = event.step;
      last_seen[event.generation] = event.time_s;
    }
  }
  std::vector<Generation> ordered;
  for (auto& [number, generation] : generations) {
    std::sort(generation.ranks.begin(), generation.ranks.end(),
              [](const HistoryEvent& a, const HistoryEvent& b) { return a.rank < b.rank; });
    for (const HistoryEvent& event : history) {
      const bool caught_up =
          event.what == "step" && event.generation > number && event.step >= generation.last_step;
      if (caught_up && last_seen.contains(number)) {
        generation.seconds_lost = event.time_s - last_seen[number];
        break;
      }
    }
    ordered.push_back(generation);
  }
  return ordered;
}

}  // namespace train_gpt
