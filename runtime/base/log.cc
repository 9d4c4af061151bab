#include "runtime/base/log.h"

#include <atomic>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "runtime/base/mutex.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace muster {
namespace {

std::atomic<LogLevel> level{LogLevel::kWarning};

// spdlog writes levels in lower case only.
class LevelInCapitals final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message,
              const std::tm&,  // NOLINT(readability-identifier-naming)
              spdlog::memory_buf_t& out) override {
    const auto name = spdlog::level::to_string_view(message.level);
    for (const char c : name) out.push_back(absl::ascii_toupper(static_cast<unsigned char>(c)));
  }
  std::unique_ptr<custom_flag_formatter> clone()
      const override {  // NOLINT(readability-identifier-naming)
    return std::make_unique<LevelInCapitals>();
  }
};

// Never destroyed: threads may log until the very end of the process.
spdlog::logger* MakeLogger(absl::string_view component) {
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  formatter->add_flag<LevelInCapitals>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %* %n: %v");
  auto* logger =
      new spdlog::logger(std::string(component), std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::debug);
  logger->flush_on(spdlog::level::debug);
  logger->set_error_handler([](const std::string&) {});
  return logger;
}

std::atomic<spdlog::logger*>& Logger() {
  static std::atomic<spdlog::logger*> logger(MakeLogger("muster"));
  return logger;
}

std::optional<LogLevel> LevelFromEnvironment() {
  const char* text = std::getenv("MUSTER_LOG");
  if (text == nullptr) return std::nullopt;
  const std::string name = absl::AsciiStrToLower(text);
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning" || name == "warn") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return std::nullopt;
}

spdlog::level::level_enum ToSpdlog(LogLevel of) {
  switch (of) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

}  // namespace

void SetUpLog(absl::string_view component, LogLevel default_level) {
  level = LevelFromEnvironment().value_or(default_level);
  spdlog::logger* const replaced = Logger().exchange(MakeLogger(component));
  // Others may still use it.
  static Mutex mutex;
  static std::vector<spdlog::logger*>& kept = *new std::vector<spdlog::logger*>;
  MutexLock lock(&mutex);
  kept.push_back(replaced);
}

bool LogEnabled(LogLevel of) { return of != LogLevel::kOff && of >= level.load(); }

void LogLine(LogLevel of, absl::string_view message) {
  Logger().load()->log(ToSpdlog(of), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace muster
