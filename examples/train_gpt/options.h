// The command-line options of the example's programs: "--name VALUE" or "--name=VALUE".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "examples/train_gpt/trainer.h"

namespace train_gpt {

// Takes a value; false where it cannot be.
using OptionReader = std::function<bool(const std::string& value)>;
using Options = std::map<std::string, OptionReader>;

OptionReader ReadInteger(int& to);  // 0 or more.
OptionReader ReadInteger(int64_t& to);
OptionReader ReadInteger(uint64_t& to);
OptionReader ReadReal(double& to);  // 0 or more.
OptionReader ReadText(std::string& to);

Options TrainOptions(TrainConfig& config);  // What both programs know.

// Empty if all is well, else what is wrong.
std::string ParseOptions(int argc, char** argv, const Options& options);

}  // namespace train_gpt
