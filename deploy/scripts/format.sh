# ./dev format: clang-format 19 over every source.

help_format() {
  cat <<'TEXT'
usage: ./dev format [--check]

Formats all C++ and CUDA sources in place; with --check only says which files would change.
TEXT
}

sources() { git ls-files -co --exclude-standard -- '*.h' '*.cc' '*.cu' '*.cuh' | sort; }

command_format() {
  setup_lint
  if [ "${1:-}" = --check ]; then
    sources | xargs clang-format-19 --dry-run --Werror ||
      die "files are not formatted" "./dev format"
  else
    sources | xargs clang-format-19 -i
  fi
}
