#include "examples/train_gpt/options.h"

#include <cstdlib>

namespace train_gpt {
namespace {

template <typename Integer>
OptionReader IntegerReader(Integer& to) {
  return [&to](const std::string& value) {
    char* end = nullptr;
    to = static_cast<Integer>(strtoll(value.c_str(), &end, 10));
    return !value.empty() && *end == '\0' && value[0] != '-';
  };
}

}  // namespace

OptionReader ReadInteger(int& to) { return IntegerReader(to); }
OptionReader ReadInteger(int64_t& to) { return IntegerReader(to); }
OptionReader ReadInteger(uint64_t& to) { return IntegerReader(to); }

OptionReader ReadReal(double& to) {
  return [&to](const std::string& value) {
    char* end = nullptr;
    to = strtod(value.c_str(), &end);
    return !value.empty() && *end == '\0' && to >= 0;
  };
}

OptionReader ReadText(std::string& to) {
  return [&to](const std::string& value) {
    to = value;
    return true;
  };
}

Options TrainOptions(TrainConfig& config) {
  return {
      {"--steps", ReadInteger(config.steps)},
      {"--batch", ReadInteger(config.batch)},
      {"--layers", ReadInteger(config.layers)},
      {"--heads", ReadInteger(config.heads)},
      {"--width", ReadInteger(config.width)},
      {"--context", ReadInteger(config.context)},
      {"--seed", ReadInteger(config.seed)},
      {"--warm_up", ReadInteger(config.warm_up)},
      {"--checkpoint_every", ReadInteger(config.checkpoint_every)},
      {"--sample_bytes", ReadInteger(config.sample_bytes)},
      {"--learning_rate", ReadReal(config.learning_rate)},
      {"--temperature", ReadReal(config.temperature)},
      {"--text", ReadText(config.text)},
      {"--checkpoints", ReadText(config.checkpoints)},
  };
}

std::string ParseOptions(int argc, char** argv, const Options& options) {
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
    if (!option->second(value)) return name + ": \"" + value + "\" is not a value it can take";
  }
  return "";
}

}  // namespace train_gpt
