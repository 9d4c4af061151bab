# What the scripts share; sourced, never run. Sets `root` and goes there.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$root"
presets="dev asan tsan clang release cuda"

say() { printf 'scripts/%s: %s\n' "$(basename -- "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }

# wrong_usage WHY: the reason and the usage on stderr, exit 2. The script defines usage().
wrong_usage() {
  say "$*"
  usage >&2
  exit 2
}

is_preset() { [[ " $presets " == *" $1 "* ]]; }

# Where nvcc is, or nothing. An installed toolkit need not be on PATH.
find_nvcc() {
  command -v nvcc || { [[ -x /usr/local/cuda/bin/nvcc ]] && echo /usr/local/cuda/bin/nvcc; }
}

# tracked PATTERN...: the tracked and new files that match and exist, one a line.
tracked() {
  local file
  git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while IFS= read -r file; do
    [[ -f $file ]] && printf '%s\n' "$file"
  done
  return 0
}
